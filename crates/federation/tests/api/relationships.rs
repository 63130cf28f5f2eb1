//! Walks over events that relate to each other, which other servers have (MSC2836).

use federation_client::calls::relationships::{RelationshipsQuery, WalkDirection};
use rooms::{Outgoing, Pdu, ReadRoomError, Reader, read::Relationships};
use ruma::{OwnedEventId, RoomId};
use serde_json::{Value, json};
use testkit::world::{Server, World};

use super::far::{Far, object};

fn query(from: &OwnedEventId) -> RelationshipsQuery {
    serde_json::from_value(json!({ "event_id": from })).expect("a query")
}

async fn bob(far: &Far<'_>) -> Reader {
    let user_nid = far.there.parts.users.nid(&far.bob).await.expect("readable").expect("registered");
    Reader { user_id: far.bob.clone(), user_nid, device_id: None }
}

async fn walk(
    server: &Server,
    who: &Reader,
    query: &RelationshipsQuery,
    room: Option<&RoomId>,
) -> Result<Relationships, ReadRoomError> {
    server.parts.rooms.relationships(who, query, room).await
}

fn bodies(found: &Relationships) -> Vec<String> {
    let body = |event: &rooms::render::ClientEvent| {
        let content: Value = event.event.content_as().expect("JSON");
        content["body"].as_str().unwrap_or_default().to_owned()
    };
    found.events.iter().map(body).collect()
}

/// Alice answers an event.
async fn answer(far: &mut Far<'_>, body: &str, to: &OwnedEventId) -> OwnedEventId {
    let content = json!({ "body": body, "m.relationship": { "rel_type": "m.reference", "event_id": to } });
    let sent = far.room.send(Outgoing::message(far.alice.clone(), "m.room.message", object(&content))).await;
    far.last = sent.expect("sent").event_id;
    far.last.clone()
}

/// A ◄── B ◄─┬─ C
///           └─ D
async fn tree(far: &mut Far<'_>) -> [OwnedEventId; 4] {
    let a = far.say("a").await;
    let b = answer(far, "b", &a).await;
    let c = answer(far, "c", &b).await;
    let d = answer(far, "d", &b).await;
    [a, b, c, d]
}

async fn is_whole(server: &Server) {
    let report = server.parts.rooms.verify().await.expect("readable");
    assert!(report.is_whole(), "{report}");
}

#[tokio::test]
async fn who_joins_later_finds_the_whole_tree() {
    let world = World::new();
    for (number, version) in ["6", "11", "12"].into_iter().enumerate() {
        let number = u8::try_from(number).expect("small");
        let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 10 + number).await);
        let mut far = Far::outside(&here, &there, version, "shared").await;
        let [a, b, _, d] = tree(&mut far).await;
        far.join_from_there().await;
        let who = bob(&far).await;
        let unknown = walk(&there, &who, &query(&d), None).await;
        assert!(matches!(unknown, Err(ReadRoomError::NotFound)), "nobody says which servers to ask");
        let up = RelationshipsQuery { include_parent: true, ..query(&d) };
        let found = walk(&there, &who, &up, Some(far.id())).await.expect("found");
        assert_eq!((bodies(&found), found.limited), (vec!["d".to_owned(), "b".to_owned()], false), "{version}");
        let children = found.events[1].unsigned.children.as_ref().expect("children");
        assert_eq!(children.counts["m.reference"], 2);
        let down = RelationshipsQuery { recent_first: false, include_parent: true, ..query(&b) };
        let found = walk(&there, &who, &down, Some(far.id())).await.expect("found");
        assert_eq!(bodies(&found), ["b", "a", "c", "d"], "{version}");
        let asked = world.servers.asked().len();
        let found = walk(&there, &who, &query(&a), None).await.expect("found");
        assert_eq!(bodies(&found), ["a", "b", "d", "c"]);
        assert_eq!(world.servers.asked().len(), asked, "nothing is missing any more");
        is_whole(&there).await;
    }
}

#[tokio::test]
async fn who_is_not_in_the_room_makes_nobody_ask() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let [.., d] = tree(&mut far).await;
    far.join_from_there().await;
    let carol = there.user("carol").await;
    let user_nid = there.parts.users.nid(&carol).await.expect("readable").expect("registered");
    let carol = Reader { user_id: carol, user_nid, device_id: None };
    let asked = world.servers.asked().len();
    let found = walk(&there, &carol, &query(&d), Some(far.id())).await;
    assert!(matches!(found, Err(ReadRoomError::NotFound)), "{found:?}");
    let nowhere = ruma::room_id!("!nowhere:hs.test");
    let found = walk(&there, &bob(&far).await, &query(&d), Some(nowhere)).await;
    assert!(matches!(found, Err(ReadRoomError::NotFound)), "{found:?}");
    assert_eq!(world.servers.asked().len(), asked);
}

/// Has `hs.test` answer questions for relationships with this, and everything else as it is; what is in `closed` not at all.
fn gives(world: &World, here: &Server, answer: Option<Value>, closed: &'static [&'static str]) {
    let honest = here.federation.clone();
    world.servers.serve(here.name.clone(), move |request| {
        let (answer, honest) = (answer.clone(), honest.clone());
        async move {
            let path = request.uri().path();
            if path.ends_with("/event_relationships")
                && let Some(answer) = answer
            {
                return http::Response::new(answer.to_string().into());
            }
            if closed.iter().any(|closed| path.contains(closed)) {
                let refused = json!({ "errcode": "M_UNRECOGNIZED", "error": "no" }).to_string();
                return http::Response::builder().status(404).body(refused.into()).expect("a response");
            }
            testkit::world::serve(honest, request).await
        }
    });
}

fn value(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).expect("JSON")
}

#[tokio::test]
async fn what_is_given_is_enough_where_it_follows_on_what_is_here() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let alice = far.alice.clone();
    let (mut events, mut ids) = (Vec::new(), Vec::<OwnedEventId>::new());
    for body in ["a", "b", "c"] {
        let mut content = json!({ "body": body });
        if let Some(last) = ids.last() {
            content["m.relationship"] = json!({ "rel_type": "m.reference", "event_id": last });
        }
        let made = far.make(&alice, "m.room.message", None, &content).await;
        ids.push(far.hand_in(made.clone()).await);
        events.push(made);
    }
    far.join_from_there().await;
    // Neither history nor a state is to be had otherwise.
    let given = json!({ "events": [value(&events[2]), value(&events[1]), value(&events[0])], "limited": false });
    gives(&world, &here, Some(given), &["/backfill/", "/state_ids/", "/state/", "/event/"]);
    let who = bob(&far).await;
    let up = RelationshipsQuery { direction: WalkDirection::Up, max_depth: 10, ..query(&ids[2]) };
    let found = walk(&there, &who, &up, Some(far.id())).await.expect("found");
    assert_eq!(bodies(&found), ["c", "b", "a"]);
    is_whole(&there).await;
}

#[tokio::test]
async fn what_a_hostile_server_gives_is_in_nobodys_walk() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let mut other = Far::outside(&here, &there, "11", "shared").await;
    let [.., d] = tree(&mut far).await;
    let alice = far.alice.clone();
    let foreign = other.make(&alice, "m.room.message", None, &json!({ "body": "foreign" })).await;
    other.hand_in(foreign.clone()).await;
    far.join_from_there().await;
    let related = json!({ "body": "beside", "m.relationship": { "rel_type": "m.reference", "event_id": d } });
    let beside = far.make(&alice, "m.room.message", None, &related).await;
    let mut unsigned = value(&beside);
    unsigned["signatures"] = json!({});
    let given = json!({
        "events": [5, [], {}, "event", unsigned, value(&foreign), value(&beside)],
        "auth_chain": [value(&foreign), 7, {}],
    });
    gives(&world, &here, Some(given), &["/backfill/", "/event/"]);
    let who = bob(&far).await;
    let found = walk(&there, &who, &query(&d), Some(far.id())).await;
    assert!(matches!(found, Err(ReadRoomError::NotFound)), "{found:?}");
    for event in [&beside, &foreign] {
        let found = walk(&there, &who, &query(event.event_id()), None).await;
        assert!(matches!(found, Err(ReadRoomError::NotFound)), "{found:?}");
    }
    let asked = world.servers.asked().len();
    assert!(walk(&there, &who, &query(&d), Some(far.id())).await.is_err());
    assert_eq!(world.servers.asked().len(), asked, "not asked again so soon");
    is_whole(&there).await;
}

#[tokio::test]
async fn a_server_that_knows_no_relationships_still_gives_the_events() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let [_, b, ..] = tree(&mut far).await;
    far.join_from_there().await;
    gives(&world, &here, None, &["/event_relationships"]);
    let found = walk(&there, &bob(&far).await, &query(&b), Some(far.id())).await.expect("found");
    assert_eq!(bodies(&found), ["b", "d", "c"]);
}

#[tokio::test]
async fn a_server_is_given_what_it_may_see() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let outside = world.server("c.test", 3).await;
    let mut far = Far::outside(&here, &there, "11", "joined").await;
    let before = far.say("before").await;
    far.join().await;
    let after = answer(&mut far, "after", &before).await;
    let last = answer(&mut far, "last", &after).await;
    let up = RelationshipsQuery { direction: WalkDirection::Up, room_id: Some(far.id().to_string()), ..query(&last) };
    let found = there.client.event_relationships(&here.name, &up).await.expect("found");
    let ids: Vec<_> = found
        .events
        .iter()
        .map(|event| Pdu::parse(far.room.version(), event.get().as_bytes()).expect("a PDU").event_id().clone())
        .collect();
    assert_eq!(ids, [last.clone(), after.clone()], "what was sent before they came is not for them");
    let shown: Value = serde_json::from_str(found.events[1].get()).expect("JSON");
    assert_eq!(shown["unsigned"]["children"], json!({ "m.reference": 1 }));
    assert_eq!(found.auth_chain.len(), 3, "the create event, the power levels, the sender's membership");
    for (server, id) in [(&there, &before), (&outside, &last)] {
        let refused = server.client.event_relationships(&here.name, &query(id)).await.expect_err("refused");
        assert!(refused.to_string().contains("M_NOT_FOUND"), "{refused}");
    }
}
