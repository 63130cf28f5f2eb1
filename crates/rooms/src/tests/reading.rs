//! The reading half on what the writing half wrote.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{ALICE, BOB, Server, say, set, uid, user};
use crate::{
    CreateRoom, Details, Outgoing, Reader,
    sync::{SyncRequest, SyncResponse},
    tests::object,
    tokens::SyncToken,
};

async fn reader(server: &Server, id: &str) -> Reader {
    Reader { user_id: user(id), user_nid: server.nid(id).await, device_id: Some("PHONE".into()) }
}

async fn synced(server: &Server, id: &str, since: Option<SyncToken>) -> SyncResponse {
    let request = SyncRequest { since, ..SyncRequest::default() };
    server.rooms.reads().sync(&reader(server, id).await, request).await.expect("a response")
}

fn types(events: &Value) -> Vec<&str> {
    events.as_array().expect("a list").iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

fn room<'a>(response: &'a Value, section: &str, id: &ruma::RoomId) -> &'a Value {
    &response["rooms"][section][id.as_str()]
}

fn value(response: &SyncResponse) -> Value {
    serde_json::to_value(response).expect("JSON")
}

#[tokio::test]
async fn a_room_is_made_spoken_in_joined_and_left_in_sight_of_its_users() {
    let server = Server::new().await;
    for version in ["1", "6", "10", "11", "12"] {
        let first = synced(&server, ALICE, None).await;
        let made = server.public(version).await;
        let response = synced(&server, ALICE, Some(first.next_batch)).await;
        let shown = value(&response);
        let timeline = &room(&shown, "join", made.id())["timeline"];
        assert_eq!(
            types(&timeline["events"])[..3],
            ["m.room.create", "m.room.member", "m.room.power_levels"],
            "{version}"
        );
        assert_eq!(timeline["limited"], false, "{version}");
        assert_eq!(room(&shown, "join", made.id())["summary"]["m.joined_member_count"], 1);

        let sent = say(&made, ALICE, "hello").await.expect("sends");
        let response = synced(&server, ALICE, Some(response.next_batch)).await;
        let shown = value(&response);
        let events = &room(&shown, "join", made.id())["timeline"]["events"];
        assert_eq!(
            (events.as_array().map(Vec::len), &events[0]["event_id"]),
            (Some(1), &json!(sent.event_id)),
            "{version}"
        );

        let before = synced(&server, BOB, None).await;
        assert_eq!(room(&value(&before), "join", made.id()), &Value::Null);
        made.join(uid(BOB), Details::default()).await.expect("joins");
        let joined = synced(&server, BOB, Some(before.next_batch)).await;
        let shown = value(&joined);
        let part = room(&shown, "join", made.id());
        assert!(types(&part["timeline"]["events"]).contains(&"m.room.message"), "shared history, {version}");
        made.leave(uid(BOB), Details::default()).await.expect("leaves");
        say(&made, ALICE, "behind the back").await.expect("sends");
        let left = value(&synced(&server, BOB, Some(joined.next_batch)).await);
        let events = &room(&left, "leave", made.id())["timeline"]["events"];
        assert_eq!(
            (types(events), &events[0]["content"]["membership"]),
            (vec!["m.room.member"], &json!("leave")),
            "{version}"
        );
        let response = synced(&server, ALICE, Some(response.next_batch)).await;
        let event =
            server.rooms.reads().event(&reader(&server, ALICE).await, made.id(), &sent.event_id).await.expect("seen");
        assert_eq!(serde_json::to_value(event).expect("JSON")["room_id"], made.id().as_str());
        assert_eq!(types(&room(&value(&response), "join", made.id())["timeline"]["events"]).len(), 3);
    }
}

#[tokio::test]
async fn a_redaction_prunes_its_target_at_once() {
    let server = Server::new().await;
    for version in ["10", "12"] {
        let room = server.public(version).await;
        let target = say(&room, ALICE, "regret").await.expect("sends").event_id;
        let content = object(&json!({ "reason": "typo" }));
        let redaction =
            Outgoing { redacts: Some(target.clone()), ..Outgoing::message(user(ALICE), "m.room.redaction", content) };
        room.send(redaction).await.expect("redacts");
        let event = server.rooms.reads().event(&reader(&server, ALICE).await, room.id(), &target).await.expect("seen");
        let event = serde_json::to_value(event).expect("JSON");
        assert_eq!(event["content"], json!({}), "{version}");
        assert_eq!(event["unsigned"]["redacted_because"]["content"]["reason"], "typo", "{version}");
    }
}

#[tokio::test]
async fn an_invite_is_shown_and_its_room_forgotten() {
    let server = Server::new().await;
    let id = server.rooms.create(CreateRoom::new(user(ALICE))).await.expect("creates");
    let made = server.rooms.room(&id).await.expect("known");
    let before = synced(&server, BOB, None).await;
    made.invite(uid(ALICE), uid(BOB), Details::default()).await.expect("invites");
    let invited = synced(&server, BOB, Some(before.next_batch)).await;
    let shown = value(&invited);
    assert!(types(&room(&shown, "invite", &id)["invite_state"]["events"]).contains(&"m.room.join_rules"));
    made.join(uid(BOB), Details::default()).await.expect("joins");
    let joined = synced(&server, BOB, Some(invited.next_batch)).await;
    assert_eq!(room(&value(&joined), "invite", &id), &Value::Null);
    made.leave(uid(BOB), Details::default()).await.expect("leaves");
    made.forget(uid(BOB)).await.expect("forgets");
    let shown = value(&synced(&server, BOB, Some(joined.next_batch)).await);
    assert_eq!(types(&room(&shown, "leave", &id)["timeline"]["events"]), ["m.room.member"]);
    let refused = server.rooms.reads().state(&reader(&server, BOB).await, &id).await;
    assert!(matches!(refused, Err(crate::ReadRoomError::Forbidden)));
}

/// I10: many write at once, one syncs meanwhile; every event comes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i10_nothing_is_skipped_while_many_write() {
    let server = Server::new().await;
    let rooms = [server.public("11").await, server.public("12").await, server.public("11").await];
    let mut token = synced(&server, ALICE, None).await.next_batch;
    let tracker = tokio_util::task::TaskTracker::new();
    let mut expected = BTreeMap::new();
    for (number, room) in rooms.iter().enumerate() {
        for part in 0..4 {
            let room = room.clone();
            tracker.spawn(async move {
                for index in 0..25 {
                    let body = format!("{number} {part} {index}");
                    if index % 5 == 0 {
                        set(&room, ALICE, "org.example.x", &body, json!({ "body": body })).await.expect("sends");
                    } else {
                        say(&room, ALICE, &body).await.expect("sends");
                    }
                }
            });
        }
        expected.insert(room.id().to_owned(), 100);
    }
    tracker.close();
    let mut seen: BTreeMap<ruma::OwnedRoomId, Vec<String>> = BTreeMap::new();
    let filter = crate::filter::Filter::parse(r#"{"room":{"timeline":{"limit":1000}}}"#).expect("a filter");
    let mut finished = false;
    while !finished {
        finished = tracker.is_empty();
        let request = SyncRequest { since: Some(token), filter: filter.clone(), ..SyncRequest::default() };
        let response = server.rooms.reads().sync(&reader(&server, ALICE).await, request).await.expect("a response");
        token = response.next_batch;
        for (id, room) in response.rooms.join {
            assert!(!room.timeline.limited);
            assert!(room.state.events().is_empty());
            let bodies = room.timeline.events.iter().filter_map(|event| {
                event.event.content_as::<Value>().and_then(|content| content["body"].as_str().map(ToOwned::to_owned))
            });
            seen.entry(id).or_default().extend(bodies);
        }
        tokio::task::yield_now().await;
    }
    for (id, bodies) in seen {
        let count = bodies.len();
        let distinct: std::collections::BTreeSet<_> = bodies.into_iter().collect();
        assert_eq!((count, distinct.len()), (expected[&id], expected[&id]));
    }
}

#[tokio::test]
async fn what_readers_are_handed_is_what_was_stored() {
    let server = Server::new().await;
    let room = server.public("12").await;
    room.join(uid(BOB), Details::default()).await.expect("joins");
    say(&room, BOB, "hello").await.expect("sends");
    let (fresh, view) = (server.rooms.reads().clone(), server.storage.view());
    let (users, clock) = (server.users.clone(), server.clock.clone());
    let stored = crate::Reads::new(server.storage.clone(), users, clock, std::sync::Arc::default(), nodes());
    let fresh = fresh.room(&view, room.id()).await.expect("readable").expect("there");
    let stored = stored.room(&view, room.id()).await.expect("readable").expect("there");
    let count = fresh.head().await.expect("readable").expect("there").next_rix;
    for rix in (1..count).map(primitives::Rix) {
        let (a, b) = (fresh.event(rix).await.expect("readable"), stored.event(rix).await.expect("readable"));
        let (a, b) = (a.expect("there"), b.expect("there"));
        assert_eq!((&a.header, a.position), (&b.header, b.position));
        let fields = |event: &crate::render::StoredEvent| -> Vec<(String, String)> {
            let fields = event.fields(crate::filter::EventFormat::Federation);
            fields.map(|(name, value)| (name.to_owned(), value.get().to_owned())).collect()
        };
        assert_eq!(fields(&a), fields(&b));
    }
    assert!(count > 6);
}

fn nodes() -> std::sync::Arc<crate::tree::NodeCache> {
    std::sync::Arc::new(crate::tree::NodeCache::new(100))
}
