//! Aliases and published rooms, asked for by another server.

use federation_client::RemoteError;
use http::StatusCode;
use rooms::{AliasError, CreateRoom, find::DirectoryQuery, remote::NotAsked};
use ruma::{room_alias_id, server_name};
use serde_json::json;
use testkit::world::{Server, World};

use super::{ask_signed, far::Far};

async fn publish(here: &Server, alias: &str, name: &str) -> ruma::OwnedRoomId {
    let alice = here.user("alice").await;
    let new = CreateRoom {
        alias_localpart: Some(alias.to_owned()),
        name: Some(name.to_owned()),
        published: true,
        ..CreateRoom::new(alice)
    };
    here.parts.rooms.create(new).await.expect("created")
}

#[tokio::test]
async fn an_alias_leads_other_servers_to_its_room() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let alias = room_alias_id!("#老虎:hs.test");
    let unknown = there.parts.rooms.find_alias(alias).await;
    let Err(AliasError::Remote(NotAsked::Remote(RemoteError::Refused { status, .. }))) = unknown else {
        panic!("{unknown:?}")
    };
    assert_eq!(status, StatusCode::NOT_FOUND);
    let room = publish(&here, "老虎", "Tigers").await;
    let found = there.parts.rooms.find_alias(alias).await.expect("found");
    assert_eq!((found.room_id, found.servers), (room, vec![server_name!("hs.test").to_owned()]));
    for (alias, status) in [("nonsense", StatusCode::BAD_REQUEST), ("%23den:c.test", StatusCode::NOT_FOUND)] {
        let path = format!("/_matrix/federation/v1/query/directory?room_alias={alias}");
        assert_eq!(ask_signed(&here, &there, "GET", &path, "").await.0, status, "{alias}");
    }
}

#[tokio::test]
async fn an_alias_comes_with_servers_that_are_in_its_room() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let alias = room_alias_id!("#den:hs.test");
    here.parts.rooms.create_alias(&far.alice, alias, far.id()).await.expect("made");
    let servers = async || here.parts.rooms.find_alias(alias).await.expect("found").servers;
    assert_eq!(servers().await, [server_name!("hs.test"), server_name!("b.test")]);
    let told = there.parts.rooms.find_alias(alias).await.expect("found").servers;
    assert_eq!(told, [server_name!("hs.test")], "nobody is sent to themselves");
    far.member("leave").await;
    assert_eq!(servers().await, [server_name!("hs.test")]);
}

#[tokio::test]
async fn the_directory_is_read_and_searched_by_other_servers() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let tigers = publish(&here, "tigers", "Tigers").await;
    publish(&here, "lions", "Lions").await;
    let path = "/_matrix/federation/v1/publicRooms";
    for (method, path, body) in [("GET", &*format!("{path}?limit=1&since="), ""), ("POST", path, r#"{"limit":1}"#)] {
        let (status, body) = ask_signed(&here, &there, method, path, body).await;
        assert_eq!((status, body["chunk"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)), "{body}");
        assert_eq!(body["total_room_count_estimate"], 2);
    }
    for body in [r#"{"since":"nonsense"}"#, r#"{"include_all_networks":true,"third_party_instance_id":"irc"}"#, "[]"] {
        assert_eq!(ask_signed(&here, &there, "POST", path, body).await.0, StatusCode::BAD_REQUEST, "{body}");
    }
    let query = json!({ "filter": { "generic_search_term": "tiger" }, "third_party_instance_id": "" });
    let query: DirectoryQuery = serde_json::from_value(query).expect("a query");
    let found = there.parts.rooms.remote_directory(&here.name, &query).await.expect("a page");
    assert_eq!((found.chunk.len(), &found.chunk[0].room_id), (1, &tigers));
    assert_eq!(found.chunk[0].name.as_deref(), Some("Tigers"));
    let first = DirectoryQuery { limit: Some(1), ..DirectoryQuery::default() };
    let page = there.parts.rooms.remote_directory(&here.name, &first).await.expect("a page");
    let next = DirectoryQuery { since: page.next_batch.clone(), ..first };
    let second = there.parts.rooms.remote_directory(&here.name, &next).await.expect("a page");
    assert_ne!(page.chunk[0].room_id, second.chunk[0].room_id);
    assert_eq!((second.next_batch, second.prev_batch.is_some()), (None, true));
}

#[tokio::test]
async fn of_a_directory_that_makes_no_sense_only_what_does_is_passed_on() {
    let world = World::new();
    let here = world.server("hs.test", 1).await;
    let good = json!({ "room_id": "!a:evil.test", "num_joined_members": 2, "world_readable": true, "guest_can_join": false, "x": [1] });
    let bad = json!({ "room_id": "no room", "num_joined_members": 2, "world_readable": true, "guest_can_join": false });
    let worse = json!({ "room_id": "!b:evil.test", "num_joined_members": "many" });
    let body = json!({ "chunk": [bad, good, worse, 5], "next_batch": "x".repeat(100_000) }).to_string();
    world.servers.serve("evil.test".try_into().expect("a name"), move |_| {
        let body = body.clone();
        async move { http::Response::new(body.into()) }
    });
    let page = here.parts.rooms.remote_directory(server_name!("evil.test"), &DirectoryQuery::default()).await;
    let page = serde_json::to_value(page.expect("a page")).expect("JSON");
    let expected = json!({ "chunk": [{
        "room_id": "!a:evil.test", "join_rule": "public", "num_joined_members": 2, "world_readable": true, "guest_can_join": false,
    }] });
    assert_eq!(page, expected);
}
