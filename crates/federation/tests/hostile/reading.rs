//! What the peer may read: nothing of rooms that it is not in, nothing by event id alone, and a bounded amount of the rest.

use http::{Method, StatusCode};
use rooms::Room;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use testkit::hostile::{Answer, Draft};

use super::stage::{MALLORY, Stage, VERSIONS, object};

/// Every way to ask for an event in a room.
fn questions(room: &str, event: &str) -> Vec<(Method, String, Option<Value>)> {
    let (room, event) = (Stage::path(room), Stage::path(event));
    let base = "/_matrix/federation/v1";
    let missing = json!({ "earliest_events": [], "latest_events": [event.replace("%24", "$")], "limit": 10 });
    vec![
        (Method::GET, format!("{base}/state/{room}?event_id={event}"), None),
        (Method::GET, format!("{base}/state_ids/{room}?event_id={event}"), None),
        (Method::GET, format!("{base}/event_auth/{room}/{event}"), None),
        (Method::GET, format!("{base}/backfill/{room}?v={event}&limit=10"), None),
        (Method::POST, format!("{base}/get_missing_events/{room}"), Some(missing)),
        (Method::GET, format!("{base}/timestamp_to_event/{room}?ts=0&dir=f"), None),
    ]
}

impl Stage {
    async fn put(&self, (method, path, body): &(Method, String, Option<Value>)) -> Answer {
        self.ask(method.clone(), path, body.as_ref()).await
    }
}

async fn say_in(stage: &Stage, room: &Room, body: &str) -> OwnedEventId {
    let content = object(&json!({ "msgtype": "m.text", "body": body }));
    let message = rooms::Outgoing::message(stage.alice.clone(), "m.room.message", content);
    room.send(message).await.expect("sent").event_id
}

/// The ids of the events in an answer, whatever field they are in.
fn events_of(answer: &Answer) -> usize {
    ["pdus", "events", "auth_chain", "pdu_ids", "auth_chain_ids"]
        .iter()
        .filter_map(|field| answer.body[field].as_array().map(Vec::len))
        .sum()
}

#[tokio::test]
async fn a_room_that_it_is_not_in_looks_like_none() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let other = stage.other_room().await;
        let secret = say_in(&stage, &other, "secret").await;
        for question in questions(other.id().as_str(), secret.as_str()) {
            let answer = stage.put(&question).await;
            let nowhere = question.1.replace(&Stage::path(other.id()), "%21nowhere%3Ahs.test");
            let nothing = stage.put(&(question.0.clone(), nowhere, question.2.clone())).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{question:?}");
            assert_eq!((answer.status, answer.body), (nothing.status, nothing.body), "{question:?}");
        }
        let by_id = stage.get(&format!("/_matrix/federation/v1/event/{}", Stage::path(&secret))).await;
        let no_such = stage.get("/_matrix/federation/v1/event/%24nothing").await;
        assert_eq!((by_id.status, by_id.body), (StatusCode::NOT_FOUND, no_such.body));
    }
}

#[tokio::test]
async fn an_event_of_another_room_looks_like_one_that_does_not_exist() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let other = stage.other_room().await;
        let secret = say_in(&stage, &other, "secret").await;
        for question in questions(stage.room.id().as_str(), secret.as_str()) {
            let answer = stage.put(&question).await;
            let path = question.1.replace(&Stage::path(&secret), "%24nothing");
            let body = question.2.clone().map(|mut body| {
                body["latest_events"] = json!(["$nothing"]);
                body
            });
            let nothing = stage.put(&(question.0.clone(), path, body)).await;
            assert!(!answer.body.to_string().contains("secret"), "{question:?}");
            assert_eq!((answer.status, &answer.body), (nothing.status, &nothing.body), "{question:?}");
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn the_acl_keeps_a_server_out_of_every_read_however_it_is_written() {
    for entry in ["evil.test", "EVIL.test", "ev?l.*", "*.test"] {
        let stage = Stage::new("12").await;
        let event = stage.say("before").await;
        stage.set("m.room.server_acl", "", json!({ "allow": ["hs.test", "*"], "deny": [entry] })).await;
        for question in questions(stage.room.id().as_str(), event.as_str()) {
            assert_eq!(stage.put(&question).await.status, StatusCode::FORBIDDEN, "{entry} {question:?}");
        }
        let by_id = stage.get(&format!("/_matrix/federation/v1/event/{}", Stage::path(&event))).await;
        assert_eq!(by_id.status, StatusCode::NOT_FOUND, "{entry}");
    }
}

#[tokio::test]
async fn what_was_said_before_it_joined_or_after_it_left_stays_hidden() {
    let stage = Stage::without_mallory("12").await;
    stage.set("m.room.history_visibility", "", json!({ "history_visibility": "joined" })).await;
    let before = stage.say("said before").await;
    let join = stage.evil.event(&stage.look().await, &Draft::member(MALLORY, MALLORY, "join"));
    stage.hand_in(&join).await;
    let leave = stage.evil.event(&stage.look().await, &Draft::member(MALLORY, MALLORY, "leave"));
    stage.hand_in(&leave).await;
    let after = stage.say("said after").await;
    for event in [&before, &after] {
        for question in questions(stage.room.id().as_str(), event.as_str()) {
            let answer = stage.put(&question).await;
            assert!(!answer.body.to_string().contains("said "), "{question:?} {}", answer.body);
        }
        let by_id = stage.get(&format!("/_matrix/federation/v1/event/{}", Stage::path(event))).await;
        assert!(!by_id.body.to_string().contains("said "), "{}", by_id.body);
    }
}

#[tokio::test]
async fn back_pagination_and_missing_events_end_at_their_limits() {
    let stage = Stage::new("12").await;
    let mut last = stage.say("0").await;
    for n in 1..150 {
        last = stage.say(&n.to_string()).await;
    }
    let (room, from) = (Stage::path(stage.room.id()), Stage::path(&last));
    for limit in ["101", "1000000000", "18446744073709551615"] {
        let answer = stage.get(&format!("/_matrix/federation/v1/backfill/{room}?v={from}&limit={limit}")).await;
        assert_eq!((answer.status, events_of(&answer)), (StatusCode::OK, 100), "{limit}");
    }
    for limit in ["-1", "99999999999999999999", "many"] {
        let answer = stage.get(&format!("/_matrix/federation/v1/backfill/{room}?v={from}&limit={limit}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{limit}");
    }
    for limit in [json!(21), json!(1_000_000_000)] {
        let body = json!({ "earliest_events": [], "latest_events": [last], "limit": limit, "min_depth": 0 });
        let path = format!("/_matrix/federation/v1/get_missing_events/{room}");
        let answer = stage.ask(Method::POST, &path, Some(&body)).await;
        assert_eq!((answer.status, events_of(&answer)), (StatusCode::OK, 20), "{limit}");
    }
}

#[tokio::test]
async fn questions_that_name_a_flood_of_events_are_refused() {
    let stage = Stage::new("12").await;
    let last = stage.say("last").await;
    let room = Stage::path(stage.room.id());
    let many: Vec<_> = (0..20_000).map(|n| format!("$event{n}")).collect();
    for (earliest, latest) in [(many.clone(), vec![last.to_string()]), (vec![], many.clone())] {
        let body = json!({ "earliest_events": earliest, "latest_events": latest, "limit": 20, "min_depth": 0 });
        let path = format!("/_matrix/federation/v1/get_missing_events/{room}");
        let answer = stage.ask(Method::POST, &path, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.body);
    }
    let query: Vec<_> = (0..1_001).map(|n| format!("v=%24event{n}")).collect();
    let path = format!("/_matrix/federation/v1/backfill/{room}?limit=10&{}", query.join("&"));
    assert_eq!(stage.get(&path).await.status, StatusCode::BAD_REQUEST);
}
