//! History that is fetched when somebody reads back to a gap.

use std::time::Duration;

use federation_client::calls::events::RawPdu;
use rooms::{
    Pdu, Reader,
    filter::RoomEventFilter,
    read::{ContextRequest, Messages, MessagesRequest, PageDirection},
    tokens::PageToken,
};
use ruma::{OwnedEventId, RoomId, UserId};
use serde_json::{Value, json};
use testkit::world::{Server, World};

use super::far::Far;

async fn reader(server: &Server, user: &UserId) -> Reader {
    let user_nid = server.parts.users.nid(user).await.expect("readable").expect("registered");
    Reader { user_id: user.to_owned(), user_nid, device_id: None }
}

async fn back(server: &Server, who: &Reader, room: &RoomId, from: Option<PageToken>, limit: u64) -> Messages {
    let filter = RoomEventFilter::default();
    let request = MessagesRequest { direction: PageDirection::Backward, from, to: None, limit: Some(limit), filter };
    server.parts.rooms.messages(who, room, request).await.expect("a page")
}

/// The ids of everything that can be read, newest first.
async fn all(server: &Server, who: &Reader, room: &RoomId, limit: u64) -> Vec<OwnedEventId> {
    let (mut from, mut ids) = (None, Vec::new());
    for _ in 0..1_000 {
        let page = back(server, who, room, from, limit).await;
        ids.extend(
            page.chunk.iter().map(|event| OwnedEventId::try_from(event.event.header.event_id.as_str()).expect("an id")),
        );
        match page.end {
            Some(end) => from = Some(end),
            None => return ids,
        }
    }
    panic!("pages without end")
}

async fn is_whole(server: &Server) {
    let report = server.parts.rooms.verify().await.expect("readable");
    assert!(report.is_whole(), "{report}");
}

#[tokio::test]
async fn who_joins_reads_back_to_the_rooms_beginning() {
    let world = World::new();
    for (number, (version, limit)) in [("6", 100), ("10", 7), ("11", 1), ("12", 250)].into_iter().enumerate() {
        let number = u8::try_from(number).expect("small");
        let here = world.server("hs.test", 1).await;
        let there = world.server("b.test", 10 + number).await;
        let mut far = Far::outside(&here, &there, version, "shared").await;
        for text in 0..230 {
            far.say(&text.to_string()).await;
        }
        far.join_from_there().await;
        let alice = all(&here, &far.reader().await, far.id(), 50).await;
        let bob = reader(&there, &far.bob).await;
        assert_eq!(all(&there, &bob, far.id(), limit).await, alice, "{version}");
        is_whole(&there).await;
        let asked = world.servers.asked().len();
        assert_eq!(all(&there, &bob, far.id(), limit).await, alice, "it is here now");
        assert_eq!(world.servers.asked().len(), asked);
    }
}

#[tokio::test]
async fn history_goes_round_forks_and_meets_what_is_known() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let base = far.say("base").await;
    for fork in 0..3 {
        far.last = base.clone();
        let alice = far.alice.clone();
        for text in 0..4 {
            let said = far.make(&alice, "m.room.message", None, &json!({ "body": format!("{fork} {text}") })).await;
            far.hand_in(said).await;
        }
    }
    far.say("merge").await;
    far.join_from_there().await;
    let bob = reader(&there, &far.bob).await;
    let seen = all(&there, &bob, far.id(), 3).await;
    let mut expected = all(&here, &far.reader().await, far.id(), 50).await;
    let mut sorted = seen.clone();
    sorted.sort();
    expected.sort();
    assert_eq!(sorted, expected);
    let at = |id: &OwnedEventId| seen.iter().position(|seen| seen == id).expect("seen");
    for pdu in history(&far).await {
        for prev in pdu.prev_events() {
            assert!(at(pdu.event_id()) < at(prev), "what comes before stands before");
        }
    }
    is_whole(&there).await;
}

#[tokio::test]
async fn a_dead_server_makes_nobody_wait_and_is_not_asked_again_at_once() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    far.say("hello").await;
    let joined = far.join_from_there().await;
    let bob = reader(&there, &far.bob).await;
    world.servers.remove(&here.name);
    let page = back(&there, &bob, far.id(), None, 10).await;
    let ids: Vec<_> = page.chunk.iter().map(|event| event.event.header.event_id.clone()).collect();
    assert_eq!(ids, [joined.to_string()]);
    assert!(page.end.is_some(), "there is more, perhaps later");
    let asked = world.servers.asked().len();
    let again = back(&there, &bob, far.id(), page.end, 10).await;
    assert!(again.chunk.is_empty());
    assert_eq!(world.servers.asked().len(), asked);
}

#[tokio::test]
async fn a_slow_server_makes_nobody_wait_long() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let joined = far.join_from_there().await;
    let bob = reader(&there, &far.bob).await;
    world.servers.serve(here.name.clone(), |_| std::future::pending());
    let time = async {
        while world.servers.asked().iter().all(|(_, asked)| !asked.contains("/backfill/")) {
            tokio::task::yield_now().await;
        }
        world.clock.advance(Duration::from_secs(10));
    };
    let (page, ()) = tokio::join!(back(&there, &bob, far.id(), None, 10), time);
    let ids: Vec<_> = page.chunk.iter().map(|event| event.event.header.event_id.clone()).collect();
    assert_eq!(ids, [joined.to_string()]);
    assert!(page.end.is_some(), "there is more to come");
}

/// What a hostile server gives as history.
#[tokio::test]
async fn of_what_a_server_gives_only_the_history_that_was_asked_for_is_stored() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    let mut other = Far::outside(&here, &there, "11", "shared").await;
    let alice = far.alice.clone();
    let good = far.make(&alice, "m.room.message", None, &json!({ "body": "good" })).await;
    far.hand_in(good.clone()).await;
    let foreign = other.make(&alice, "m.room.message", None, &json!({ "body": "foreign" })).await;
    other.hand_in(foreign.clone()).await;
    far.join_from_there().await;
    let beside = far.make(&alice, "m.room.message", None, &json!({ "body": "beside" })).await;
    let mut forged: Value = serde_json::from_str(good.json()).expect("JSON");
    forged["content"] = json!({ "body": "forged" });
    let mut unsigned: Value = serde_json::from_str(good.json()).expect("JSON");
    unsigned["signatures"] = json!({});
    let answer = json!({ "pdus": [
        5, [], {}, "event", forged, unsigned,
        serde_json::from_str::<Value>(foreign.json()).expect("JSON"),
        serde_json::from_str::<Value>(beside.json()).expect("JSON"),
    ] });
    let honest = here.federation.clone();
    let answer = answer.to_string();
    world.servers.serve("hs.test".try_into().expect("a name"), move |request| {
        let (answer, honest) = (answer.clone(), honest.clone());
        async move {
            if request.uri().path().starts_with("/_matrix/federation/v1/backfill/") {
                return http::Response::new(answer.into());
            }
            testkit::world::serve(honest, request).await
        }
    });
    let bob = reader(&there, &far.bob).await;
    let page = back(&there, &bob, far.id(), None, 100).await;
    let bodies: Vec<Value> = page.chunk.iter().map(|event| event.event.content_as().expect("content")).collect();
    assert!(bodies.iter().all(|content| content["body"].is_null()), "{bodies:?}");
    is_whole(&there).await;
}

#[tokio::test]
async fn an_event_is_found_by_its_time_though_it_was_sent_before_anybody_was_here() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::outside(&here, &there, "11", "shared").await;
    world.clock.advance(Duration::from_hours(1));
    let early = far.say("early").await;
    world.clock.advance(Duration::from_hours(1));
    far.say("late").await;
    world.clock.advance(Duration::from_hours(1));
    far.join_from_there().await;
    let bob = reader(&there, &far.bob).await;
    let (from, ts) = (PageDirection::Forward, 1_700_000_000_000 + 1_800_000);
    let found = there.parts.rooms.event_at_time(&bob, far.id(), ts, from).await.expect("found");
    assert_eq!((found.event_id, found.origin_server_ts), (early.clone(), 1_700_000_000_000 + 3_600_000));
    let request = ContextRequest { event_id: early, limit: Some(4), filter: RoomEventFilter::default() };
    let context = there.parts.rooms.message_context(&bob, far.id(), request).await.expect("its context");
    assert_eq!((context.events_before.len(), context.events_after.len()), (2, 2));
}

/// The history of a room as its server gives it.
async fn history(far: &Far<'_>) -> Vec<Pdu> {
    let last = std::slice::from_ref(&far.last);
    let events = far.there.client.backfill(&far.here.name, far.id(), last, 100).await.expect("history");
    let parse = |event: &RawPdu| Pdu::parse(far.room.version(), event.get().as_bytes());
    events.iter().map(|event| parse(event).expect("a PDU")).collect()
}

/// Has `hs.test` answer backfill with these events and everything else as it is.
fn gives(world: &World, here: &Server, events: &[&Pdu]) {
    let parse = |event: &&Pdu| serde_json::from_str::<Value>(event.json()).expect("JSON");
    let answer = json!({ "pdus": events.iter().map(parse).collect::<Vec<_>>() }).to_string();
    let honest = here.federation.clone();
    world.servers.serve(here.name.clone(), move |request| {
        let (answer, honest) = (answer.clone(), honest.clone());
        async move {
            if request.uri().path().starts_with("/_matrix/federation/v1/backfill/") {
                return http::Response::new(answer.into());
            }
            testkit::world::serve(honest, request).await
        }
    });
}

#[tokio::test]
async fn what_is_rejected_is_not_shown_and_does_not_end_the_history() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let (alice, bob, mallory) = (far.alice.clone(), far.bob.clone(), here.user("mallory").await);
    let said = far.make(&alice, "m.room.message", None, &json!({ "body": "said" })).await;
    far.hand_in(said.clone()).await;
    let at = far.last.clone();
    let bad = far.make(&mallory, "m.room.message", None, &json!({ "body": "bad" })).await;
    far.last = bad.event_id().clone();
    let named = json!({ "membership": "join", "displayname": "Bob" });
    let join = far.make(&bob, "m.room.member", Some(bob.as_str()), &named).await;
    far.begin_there(&join, &at).await;
    gives(&world, &here, &[&bad, &said]);
    let reader = reader(&there, &bob).await;
    let page = back(&there, &reader, far.id(), None, 2).await;
    let ids: Vec<_> = page.chunk.iter().map(|event| event.event.header.event_id.as_str()).collect();
    assert_eq!(ids, [join.event_id().as_str(), said.event_id().as_str()]);
    is_whole(&there).await;
}

#[tokio::test]
async fn a_room_has_one_beginning_whatever_a_server_gives() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "10", "shared").await;
    let (alice, bob) = (far.alice.clone(), far.bob.clone());
    let at = far.say("at").await;
    let create = json!({ "creator": alice, "room_version": "10" });
    let second = far.make(&alice, "m.room.create", Some(""), &create).await;
    far.last = second.event_id().clone();
    let join = far.make(&bob, "m.room.member", Some(bob.as_str()), &json!({ "membership": "join", "x": 1 })).await;
    far.begin_there(&join, &at).await;
    gives(&world, &here, &[&second]);
    let reader = reader(&there, &bob).await;
    let page = back(&there, &reader, far.id(), None, 10).await;
    let ids: Vec<_> = page.chunk.iter().map(|event| event.event.header.event_id.as_str()).collect();
    assert_eq!(ids[0], join.event_id().as_str());
    assert!(!ids.contains(&second.event_id().as_str()), "{ids:?}");
    is_whole(&there).await;
}
