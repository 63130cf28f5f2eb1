//! Events of no form: too large, too long, too many references, numbers that are none.

use http::{Method, StatusCode};
use rooms::sync::SyncRequest;
use serde_json::{Value, json};
use testkit::hostile::{Draft, Forged};

use super::stage::{MALLORY, Stage, VERSIONS};

/// An event that canonical JSON has no room for: the text of a field is replaced in the text of a transaction.
async fn send_text(stage: &Stage, event: &Forged, from: &str, to: &str) -> StatusCode {
    let body = json!({ "origin": "evil.test", "origin_server_ts": 5, "pdus": [event.json], "edus": [] });
    let text = body.to_string().replace(from, to);
    assert!(text.contains(to), "{from} is not there");
    let path = format!("/_matrix/federation/v1/send/{}", stage.evil.new_transaction());
    stage.evil.ask_text(&stage.here.name, Method::PUT, &path, text.into_bytes()).await.status
}

#[tokio::test]
async fn an_event_of_65537_bytes_is_none() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let empty = stage.evil.event(&held, &Draft::message(MALLORY, "")).json.to_string().len();
        let body = |bytes: usize| json!({ "msgtype": "m.text", "body": "x".repeat(bytes - empty) });
        let fits = Draft { content: body(65_536), ..Draft::message(MALLORY, "") };
        let just = stage.evil.event(&held, &fits);
        assert_eq!(just.json.to_string().len(), 65_536);
        // Changed after signing: an event of an allowed size would be stored without its content.
        stage.not_stored(&just.clone().tampered("content", body(65_537)), "one byte too many").await;
        stage.not_stored(&just.clone().tampered("content", body(1 << 20)), "a mebibyte").await;
        assert_eq!(stage.send(&[&just]).await.error_of(&just), None);
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn long_fields_make_no_event() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let long = "x".repeat(256);
        for (field, value) in [
            ("type", json!(long)),
            ("state_key", json!(long)),
            ("sender", json!(format!("@{long}:evil.test"))),
            ("room_id", json!(format!("!{long}"))),
        ] {
            let event = stage.evil.event_with(&held, &Draft::message(MALLORY, "x"), &json!({ field: value }));
            stage.not_stored(&event, field).await;
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn fields_of_the_wrong_kind_make_no_event() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    for (field, value) in [
        ("type", json!(7)),
        ("type", Value::Null),
        ("sender", json!(["@mallory:evil.test"])),
        ("content", json!("text")),
        ("content", Value::Null),
        ("content", json!([])),
        ("depth", json!(-1)),
        ("depth", json!("5")),
        ("depth", Value::Null),
        ("origin_server_ts", json!(-1)),
        ("origin_server_ts", json!("now")),
        ("state_key", Value::Null),
        ("state_key", json!(5)),
        ("prev_events", json!("$x")),
        ("prev_events", json!([["$x", {}]])),
        ("prev_events", json!({ "$x": {} })),
        ("auth_events", json!([5])),
        ("auth_events", Value::Null),
    ] {
        // What can't be hashed as an event is sent with the hash of a good one.
        let event = stage.evil.event(&held, &Draft::message(MALLORY, "x")).tampered(field, value.clone());
        stage.not_stored(&event, &format!("{field} = {value}")).await;
    }
    stage.goes_on().await;
}

#[tokio::test]
async fn more_references_than_allowed_make_no_event() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let mut ids = Vec::new();
        for n in 0..21 {
            ids.push(stage.say(&n.to_string()).await);
        }
        let held = stage.look().await;
        let questions = stage.questions();
        let draft = Draft::message(MALLORY, "x");
        let prev = stage.evil.event_with(&held, &draft, &json!({ "prev_events": ids }));
        stage.not_stored(&prev, "21 prev events").await;
        let auth = stage.evil.event_with(&held, &draft, &json!({ "auth_events": ids[..11] }));
        stage.not_stored(&auth, "11 auth events").await;
        let unknown: Vec<_> = (0..5_000).map(|n| format!("$unknown{n}")).collect();
        for field in ["prev_events", "auth_events"] {
            let bomb = stage.evil.event(&held, &draft).tampered(field, json!(unknown));
            stage.not_stored(&bomb, field).await;
        }
        assert_eq!(stage.questions(), questions, "nothing is fetched for what is no event");
        let twenty = stage.evil.event_with(&held, &draft, &json!({ "prev_events": ids[1..] }));
        assert_eq!(stage.send(&[&twenty]).await.error_of(&twenty), None);
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn the_greatest_depth_bricks_no_room() {
    const GREATEST: u64 = (1 << 53) - 1;
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let event = stage.evil.event_with(&held, &Draft::message(MALLORY, "deep"), &json!({ "depth": GREATEST }));
        assert_eq!(stage.send(&[&event]).await.error_of(&event), None);
        for n in 0..3 {
            let said = stage.say(&n.to_string()).await;
            assert_eq!(stage.look().await.event(&said).pdu.depth(), GREATEST);
        }
        stage.goes_on().await;
        // 2⁶³−1 is no number of canonical JSON.
        let held = stage.look().await;
        let event = stage.evil.event(&held, &Draft::message(MALLORY, "deeper"));
        let depth = format!("\"depth\":{}", event.json["depth"]);
        let status = send_text(&stage, &event, &depth, "\"depth\":9223372036854775807").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "it is JSON, and not signed");
        stage.unchanged(&held, "2⁶³−1").await;
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn numbers_that_are_none_stop_nothing() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let content = json!({ "body": "x", "n": 123_456 });
        let draft = Draft { content, ..Draft::message(MALLORY, "") };
        let event = stage.evil.event(&held, &draft);
        // What is JSON could have been signed, and is not.
        let (none, unsigned) = (StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED);
        for (number, expected) in [
            ("NaN", none),
            ("Infinity", none),
            ("-Infinity", none),
            ("1.5", unsigned),
            ("1e3", unsigned),
            ("9007199254740992", unsigned),
            ("-9007199254740992", unsigned),
            ("1e400", unsigned),
            ("0x10", none),
            ("01", none),
        ] {
            let status = send_text(&stage, &event, "123456", number).await;
            assert_eq!(status, expected, "{number}");
            stage.unchanged(&held, number).await;
            assert!(!stage.look().await.events.contains_key(&event.event_id), "{number}");
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn bodies_nested_too_deep_are_refused() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let event = stage.evil.event(&held, &Draft { content: json!({ "x": "DEEP" }), ..Draft::message(MALLORY, "") });
    for depth in [100, 1_000, 100_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(send_text(&stage, &event, "\"DEEP\"", &nested).await, StatusCode::BAD_REQUEST, "{depth}");
    }
    stage.unchanged(&held, "deep").await;
    stage.goes_on().await;
}

#[tokio::test]
async fn times_from_beyond_order_nothing() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        for time in [0, (1_u64 << 53) - 1] {
            let held = stage.look().await;
            let fields = json!({ "origin_server_ts": time });
            let event = stage.evil.event_with(&held, &Draft::message(MALLORY, "when"), &fields);
            stage.send(&[&event]).await;
            let said = stage.say("after").await;
            assert_eq!(stage.look().await.arrived.last(), Some(&said), "{time}");
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn state_of_the_wrong_shape_breaks_no_room() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        stage.empower_mallory(50).await;
        for (kind, key, content) in [
            ("m.room.name", "", json!({ "name": 5 })),
            ("m.room.topic", "", json!({ "topic": { "m.topic": [[]] } })),
            ("m.room.avatar", "", json!({ "url": [] })),
            ("m.room.canonical_alias", "", json!({ "alias": 7, "alt_aliases": "x" })),
            ("m.room.history_visibility", "", json!({ "history_visibility": [] })),
            ("m.room.guest_access", "", json!({ "guest_access": {} })),
            ("m.room.pinned_events", "", json!({ "pinned": 5 })),
            ("m.space.child", "!x:evil.test", json!({ "via": 5, "order": {} })),
            ("m.room.member", MALLORY, json!({ "membership": "join", "displayname": 5, "avatar_url": [] })),
        ] {
            let held = stage.look().await;
            let event = stage.evil.event(&held, &Draft::state(MALLORY, kind, key, content));
            stage.send(&[&event]).await;
            let reader = stage.reader().await;
            let members = stage.here.parts.reads.joined_members(&reader, stage.room.id()).await;
            assert!(members.is_ok(), "{kind}");
            let synced = stage.here.parts.reads.sync(&reader, SyncRequest::default()).await;
            assert!(synced.is_ok_and(|synced| synced.rooms.join.contains_key(stage.room.id())), "{kind}");
            stage.goes_on().await;
        }
    }
}
