//! Sending.

use std::sync::Arc;

use primitives::{StreamPosition, UnixMillis};
use ruma::EventId;
use serde_json::json;
use storage::{
    Batch, Direction, KeyRange, Text,
    schema::{
        meta::Counters,
        rooms::{
            EventHeaders, EventIds, EventLocal, EventLocals, PendingRedactions, Redactions, Relations, RoomLog,
            Timeline,
        },
    },
};

use super::{ALICE, BOB, Server, current, marker, object, say, set, uid, user};
use crate::{Details, Options, Outgoing, Rider, Room, SendError, SlotUnchanged, event_key};

fn message(body: &str) -> Outgoing {
    Outgoing::message(user(ALICE), "m.room.message", object(&json!({ "body": body })))
}

async fn events(server: &Server, room: &Room) -> usize {
    let range = KeyRange::prefix(&(room.nid(),));
    server.storage.view().scan::<Timeline>(&range, 10_000, Direction::Forward).await.expect("readable").rows.len()
}

#[tokio::test]
async fn a_send_is_durable_visible_and_in_order() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let first = say(&room, ALICE, "one").await.expect("sends");
    let second = say(&room, ALICE, "two").await.expect("sends");
    assert!(first.position < second.position);
    let view = server.storage.view();
    let place = view.get::<EventIds>(&(event_key(&second.event_id),)).await.expect("readable").expect("there");
    let header = view.get::<EventHeaders>(&(room.nid(), place.rix)).await.expect("readable").expect("there");
    assert_eq!(header.position, second.position);
    let before = view.get::<EventIds>(&(event_key(&first.event_id),)).await.expect("readable").expect("there");
    assert_eq!(header.value.prev, [before.rix]);
    let log = view.scan::<RoomLog>(&KeyRange::prefix(&(room.nid(),)), 1, Direction::Backward).await.expect("readable");
    assert_eq!(log.rows[0].0.1, second.position);
}

#[tokio::test]
async fn strangers_and_the_powerless_are_refused_for_their_reason() {
    let server = Server::new().await;
    let room = server.public("11").await;
    assert!(matches!(say(&room, BOB, "hi").await, Err(SendError::NotInRoom)));
    room.join(uid(BOB), Details::default()).await.expect("joins");
    let refused = set(&room, BOB, "m.room.name", "", json!({ "name": "x" })).await;
    assert!(matches!(refused, Err(SendError::Forbidden { .. })));
    let refused = set(&room, ALICE, "m.room.create", "", json!({ "entropy": 1 })).await;
    assert!(matches!(refused, Err(SendError::BadContent { .. })), "{refused:?}");
    let refused = set(&room, ALICE, "m.room.member", BOB, json!({ "membership": 5 })).await;
    assert!(matches!(refused, Err(SendError::BadContent { .. })), "{refused:?}");
    let large = say(&room, ALICE, &"x".repeat(66_000)).await;
    assert!(matches!(large, Err(SendError::TooLarge { .. })));
    let options = Options { pdu_max_bytes: 2_000, ..Options::new(ruma::server_name!("x").to_owned()) };
    let frugal = Server::with(server.storage.clone(), Arc::clone(&server.clock), options).await;
    let small = frugal.rooms.room(room.id()).await.expect("known");
    assert!(matches!(say(&small, ALICE, &"x".repeat(2_000)).await, Err(SendError::TooLarge { .. })));
    let creators = server.public("12").await;
    let refused = set(&creators, ALICE, "m.room.power_levels", "", json!({ "users": { ALICE: 100 } })).await;
    assert!(matches!(refused, Err(SendError::BadContent { .. })), "{refused:?}");
}

#[tokio::test]
async fn i11_state_that_says_nothing_new_is_not_sent_again() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let first = set(&room, ALICE, "m.room.name", "", json!({ "name": "x" })).await.expect("sends");
    let count = events(&server, &room).await;
    let again = set(&room, ALICE, "m.room.name", "", json!({ "name": "x" })).await.expect("sends");
    assert_eq!((&again, events(&server, &room).await), (&first, count));
    let ridden = Outgoing::state(user(ALICE), "m.room.name", "", object(&json!({ "name": "x" })));
    let ridden = room.send(Outgoing { riders: vec![marker("m")], ..ridden }).await.expect("sends");
    assert_eq!(ridden.event_id, first.event_id);
    assert!(ridden.position > first.position, "the rider is written");
    let other = set(&room, ALICE, "m.room.name", "", json!({ "name": "y" })).await.expect("sends");
    assert_ne!(other.event_id, first.event_id);
}

#[tokio::test]
async fn i8_a_rider_and_its_event_are_written_together_or_not_at_all() {
    let server = Server::new().await;
    let room = server.public("12").await;
    room.send(Outgoing { riders: vec![marker("once")], ..message("a") }).await.expect("sends");
    let count = events(&server, &room).await;
    let again = room.send(Outgoing { riders: vec![marker("once")], ..message("a") }).await;
    assert!(matches!(again, Err(SendError::RiderConflict)), "{again:?}");
    let refused = Outgoing { riders: vec![marker("never")], sender: user(BOB), ..message("a") };
    assert!(room.send(refused).await.is_err());
    assert_eq!(events(&server, &room).await, count);
    let never = server.storage.view().get::<Counters>(&(Text::new("never"),)).await.expect("readable");
    assert_eq!(never, None);
}

#[tokio::test]
async fn i8_of_many_at_once_with_one_marker_exactly_one_is_sent() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let count = events(&server, &room).await;
    let sends = (0..120).map(|n| {
        let rider = if n % 3 == 0 { vec![marker("same")] } else { Vec::new() };
        room.send(Outgoing { riders: rider, ..message("a") })
    });
    let outcomes = futures_util::future::join_all(sends).await;
    let conflicts = outcomes.iter().filter(|outcome| matches!(outcome, Err(SendError::RiderConflict))).count();
    let sent = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((conflicts, sent), (39, 81));
    assert_eq!(events(&server, &room).await, count + 81);
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_handles_opened_at_once_have_one_writer() {
    let server = Server::new().await;
    let id = server.public("12").await.id().to_owned();
    let sends = (0..100).map(async |n: u32| {
        let room = server.rooms.room(&id).await.expect("known");
        say(&room, ALICE, &n.to_string()).await.expect("sends")
    });
    futures_util::future::join_all(sends).await;
    // Two writers would both have built on the same newest event: the room would have forked.
    let room = server.rooms.room(&id).await.expect("known");
    let range = KeyRange::prefix(&(room.nid(),));
    let page = server.storage.view().scan::<EventHeaders>(&range, 1_000, Direction::Forward).await.expect("readable");
    let mut previous = Vec::new();
    for ((_, rix), header) in page.rows {
        assert_eq!(header.value.prev, previous, "event {rix} is built on the one before");
        previous = vec![rix];
    }
}

#[tokio::test]
async fn waiting_sends_become_one_batch() {
    let server = Server::new().await;
    let room = server.public("12").await;
    say(&room, ALICE, "warm").await.expect("sends");
    let before = server.storage.position();
    let bodies: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let outcomes = futures_util::future::join_all(bodies.iter().map(|body| say(&room, ALICE, body))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let batches = server.storage.position().0 - before.0;
    assert!(batches < 10, "{batches} batches for 50 events");
}

#[tokio::test]
async fn a_precondition_sees_newer_state_and_excuses_one_sender() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let since = server.storage.position();
    let check = |other: Option<&str>, since: StreamPosition| {
        let unchanged = SlotUnchanged {
            event_type: "m.room.name".to_owned(),
            state_key: String::new(),
            since,
            other_sender_only: other.map(user),
        };
        let rider = Rider { unchanged: Some(unchanged), batch: Box::new(|_| Batch::new()) };
        room.send(Outgoing { riders: vec![rider], ..message("timer") })
    };
    check(None, since).await.expect("nothing happened");
    let named = set(&room, ALICE, "m.room.name", "", json!({ "name": "x" })).await.expect("sends");
    assert!(matches!(check(None, since).await, Err(SendError::PreconditionFailed)));
    assert!(matches!(check(Some(BOB), since).await, Err(SendError::PreconditionFailed)));
    check(Some(ALICE), since).await.expect("excused");
    check(None, named.position).await.expect("nothing since");
}

#[tokio::test]
async fn relations_redactions_and_local_knowledge_are_indexed() {
    let server = Server::new().await;
    for version in ["2", "10", "12"] {
        let room = server.public(version).await;
        room.join(uid(BOB), Details::default()).await.expect("joins");
        let local = EventLocal { transaction_id: Some("t".to_owned()), ..EventLocal::default() };
        let target = room.send(Outgoing { local: local.clone(), ..message("a") }).await.expect("sends");
        let content = json!({ "m.relates_to": { "rel_type": "m.thread", "event_id": target.event_id } });
        room.send(Outgoing { content: object(&content), ..message("") }).await.expect("sends");
        let redact = |sender: &str, id: &EventId| Outgoing {
            redacts: Some(id.to_owned()),
            content: object(&json!({})),
            sender: user(sender),
            event_type: "m.room.redaction".to_owned(),
            ..message("")
        };
        let refused = room.send(redact(BOB, &target.event_id)).await;
        assert!(matches!(refused, Err(SendError::Forbidden { .. })), "{version}: {refused:?}");
        room.send(redact(ALICE, &target.event_id)).await.expect("sends");
        let unknown = EventId::parse("$unknown:x").expect("an id");
        room.send(redact(ALICE, &unknown)).await.expect("sends");
        let view = server.storage.view();
        let hash = server.storage.hash().hash16(&[target.event_id.as_bytes()]);
        let range = KeyRange::prefix(&(room.nid(), hash));
        assert_eq!(view.scan::<Redactions>(&range, 9, Direction::Forward).await.expect("scan").rows.len(), 1);
        let relations = view.scan::<Relations>(&range, 9, Direction::Forward).await.expect("scan").rows;
        assert_eq!(relations[0].1.rel_type, "m.thread");
        let pending = view.scan::<PendingRedactions>(&KeyRange::prefix(&(room.nid(),)), 9, Direction::Forward).await;
        assert_eq!(pending.expect("scan").rows.len(), 1);
        let rix = view.get::<EventIds>(&(event_key(&target.event_id),)).await.expect("readable").expect("there").rix;
        assert_eq!(view.get::<EventLocals>(&(room.nid(), rix)).await.expect("readable"), Some(local));
    }
}

#[tokio::test]
async fn a_restarted_server_goes_on_where_the_room_stood() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let last = say(&room, ALICE, "before").await.expect("sends");
    server.rooms.close().await;
    assert!(matches!(say(&room, ALICE, "closed").await, Err(SendError::Unavailable)));
    let again = Server::on(server.storage.clone(), Arc::clone(&server.clock)).await;
    let room = again.rooms.room(room.id()).await.expect("known");
    let next = say(&room, ALICE, "after").await.expect("sends");
    let view = again.storage.view();
    let rix = |id| {
        let view = view.clone();
        async move { view.get::<EventIds>(&(event_key(id),)).await.expect("readable").expect("there").rix }
    };
    let header = view
        .get::<EventHeaders>(&(room.nid(), rix(&next.event_id).await))
        .await
        .expect("readable")
        .expect("there")
        .value;
    assert_eq!(header.prev, [rix(&last.event_id).await]);
    assert!(current(&room, "m.room.member", ALICE).await.is_some());
}

#[tokio::test]
async fn the_claimed_time_and_stickiness_are_the_callers() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let outgoing = Outgoing { origin_server_ts: Some(UnixMillis(5)), sticky_duration_ms: Some(1_000), ..message("s") };
    let sent = room.send(outgoing).await.expect("sends");
    let view = server.storage.view();
    let rix = view.get::<EventIds>(&(event_key(&sent.event_id),)).await.expect("readable").expect("there").rix;
    let pdu = crate::load::event(&view, room.nid(), room.version(), rix).await.expect("readable").pdu;
    assert_eq!(pdu.origin_server_ts(), UnixMillis(5));
    assert!(pdu.json().contains(r#""msc4354_sticky":{"duration_ms":1000}"#));
}

#[tokio::test]
async fn an_idle_worker_is_unloaded_and_comes_back() {
    let server = Server::new().await;
    let rooms = [server.public("12").await, server.public("12").await];
    for room in &rooms {
        say(room, ALICE, "one").await.expect("sends");
    }
    assert_eq!(server.rooms.loaded_workers(), 2);
    tokio::task::yield_now().await;
    server.clock.advance(std::time::Duration::from_mins(6));
    while server.rooms.loaded_workers() > 0 {
        tokio::task::yield_now().await;
    }
    say(&rooms[0], ALICE, "two").await.expect("sends");
    assert_eq!(server.rooms.loaded_workers(), 1);
}
