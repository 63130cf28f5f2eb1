//! Trees of rooms that lie on several servers.

use http::StatusCode;
use rooms::{
    CreateRoom, Outgoing, Preset, ReadRoomError, Reader,
    find::{Hierarchy, HierarchyRequest},
};
use ruma::{OwnedRoomId, RoomId, UserId, server_name};
use serde_json::{Value, json};
use testkit::world::{Server, World};

use super::{ask_signed, far::object};

async fn reader(server: &Server, user: &UserId) -> Reader {
    let user_nid = server.parts.users.nid(user).await.expect("readable").expect("registered");
    Reader { user_id: user.to_owned(), user_nid, device_id: None }
}

/// A public room of Alice's, a space or not.
async fn room(server: &Server, name: &str, space: bool) -> OwnedRoomId {
    let alice = server.user("alice").await;
    let creation_content = if space { object(&json!({ "type": "m.space" })) } else { object(&json!({})) };
    let preset = Some(Preset::PublicChat);
    let new = CreateRoom { name: Some(name.to_owned()), preset, creation_content, ..CreateRoom::new(alice) };
    server.parts.rooms.create(new).await.expect("created")
}

async fn set(server: &Server, room: &RoomId, kind: &str, key: &str, content: Value) {
    let alice = server.user("alice").await;
    let room = server.parts.rooms.room(room).await.expect("there");
    room.send(Outgoing::state(alice, kind, key, object(&content))).await.expect("sent");
}

async fn link(server: &Server, space: &RoomId, child: &RoomId, via: &str) {
    set(server, space, "m.space.child", child.as_str(), json!({ "via": [via] })).await;
}

fn names(tree: &Hierarchy) -> Vec<&str> {
    tree.rooms.iter().filter_map(|room| room.summary.published.name.as_deref()).collect()
}

async fn tree(server: &Server, who: &Reader, root: &RoomId) -> Hierarchy {
    server.parts.rooms.hierarchy(who, root, HierarchyRequest::default()).await.expect("a tree")
}

#[tokio::test]
async fn a_tree_goes_on_on_other_servers() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let (root, mine) = (room(&here, "root", true).await, room(&here, "mine", false).await);
    let (branch, leaf) = (room(&there, "branch", true).await, room(&there, "leaf", false).await);
    link(&here, &root, &branch, "b.test").await;
    link(&there, &branch, &leaf, "b.test").await;
    link(&there, &branch, &mine, "hs.test").await;
    link(&there, &branch, &root, "hs.test").await;
    let alice = reader(&here, &here.user("alice").await).await;
    let found = tree(&here, &alice, &root).await;
    let mut all = names(&found);
    all.sort_unstable();
    assert_eq!(all, ["branch", "leaf", "mine", "root"]);
    assert_eq!(found.rooms[1].children_state.len(), 3);
    let asked = world.servers.asked().len();
    assert_eq!(names(&tree(&here, &alice, &root).await).len(), 4);
    assert_eq!(world.servers.asked().len(), asked, "what was described lately isn't asked for again");
    let summary =
        here.parts.rooms.room_summary(Some(&alice), &leaf, std::slice::from_ref(&there.name)).await.expect("described");
    assert_eq!(summary.summary.published.name.as_deref(), Some("leaf"));
    let unknown = here.parts.rooms.room_summary(None, &leaf, std::slice::from_ref(&there.name)).await;
    assert!(matches!(unknown, Err(ReadRoomError::NotFound)), "strangers have nobody asked: {unknown:?}");
}

#[tokio::test]
async fn servers_are_told_of_rooms_that_their_users_may_know_of() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let root = room(&here, "root", true).await;
    let (open, closed, gone) = (room(&here, "open", false).await, room(&here, "closed", false).await, "!gone:hs.test");
    set(&here, &closed, "m.room.join_rules", "", json!({ "join_rule": "invite" })).await;
    for child in [open.as_str(), closed.as_str(), gone] {
        link(&here, &root, child.try_into().expect("an id"), "hs.test").await;
    }
    let path = |room: &RoomId| format!("/_matrix/federation/v1/hierarchy/{}", room.as_str().replace('!', "%21"));
    let (status, body) = ask_signed(&here, &there, "GET", &path(&root), "").await;
    assert_eq!((status, &body["room"]["name"]), (StatusCode::OK, &json!("root")), "{body}");
    let children: Vec<_> = body["children"].as_array().expect("a list").iter().map(|child| &child["name"]).collect();
    assert_eq!((children, &body["inaccessible_children"]), (vec![&json!("open")], &json!([closed])));
    let suggested = format!("{}?suggested_only=true", path(&root));
    assert_eq!(ask_signed(&here, &there, "GET", &suggested, "").await.1["children"], json!([]));
    for hidden in [&*closed, gone.try_into().expect("an id")] {
        assert_eq!(ask_signed(&here, &there, "GET", &path(hidden), "").await.0, StatusCode::NOT_FOUND, "{hidden}");
    }
}

#[tokio::test]
async fn what_a_server_says_of_its_rooms_is_bounded_and_must_make_sense() {
    let world = World::new();
    let here = world.server("hs.test", 1).await;
    let root = room(&here, "root", true).await;
    let alice = reader(&here, &here.user("alice").await).await;
    for number in 0..80 {
        link(&here, &root, format!("!r{number}:evil.test").as_str().try_into().expect("an id"), "evil.test").await;
    }
    let described = |id: &str, rule: &str| {
        json!({
            "room_id": id, "name": "evil", "join_rule": rule, "num_joined_members": 1, "world_readable": false,
            "guest_can_join": false, "room_type": "m.space", "children_state": [
                5, { "type": "m.space.child", "state_key": id, "sender": "@a:b", "origin_server_ts": 1, "content": { "via": ["evil.test"] } },
            ],
        })
    };
    let answers = [
        json!({ "room": described("!other:evil.test", "public") }),
        json!({ "room": described("!r1:evil.test", "invite") }),
        json!({ "room": { "room_id": "!r2:evil.test" } }),
        json!({ "room": described("!r3:evil.test", "public"), "children": [described("!r4:evil.test", "public"), 7] }),
        json!([]),
    ];
    world.servers.serve(server_name!("evil.test").to_owned(), move |request| {
        let number =
            request.uri().path().rsplit('r').next().and_then(|rest| rest.split('%').next()?.parse::<usize>().ok());
        let answer = answers[number.unwrap_or_default().min(4)].to_string();
        async move { http::Response::new(answer.into()) }
    });
    let found = tree(&here, &alice, &root).await;
    assert_eq!(names(&found), ["root", "evil"], "only what can be shown to her");
    assert!(world.servers.asked().len() <= 50, "a tree asks a bounded number of questions");
}
