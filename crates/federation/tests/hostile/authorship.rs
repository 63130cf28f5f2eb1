//! Whose events are whose: events in others' names, changed on the way, sent twice, sent by the hundred.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::hostile::{Draft, Forged};

use super::stage::{MALLORY, Stage, VERSIONS};

#[tokio::test]
async fn events_of_others_users_are_not_taken_from_it() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let friend = stage.world.server("friend.test", 3).await;
        let held = stage.look().await;
        for sender in
            ["@alice:hs.test", "@fred:friend.test", "@fred:nowhere.test", "@mallory:EVIL.test", "@mallory:evil.test:1"]
        {
            let forged = stage.evil.event(&held, &Draft::message(sender, "I said this"));
            stage.not_stored(&forged, sender).await;
        }
        // With the friend's name on the signature, but not by the friend's key.
        let draft = testkit::hostile::raw_draft(&held, 1_700_000_000_000, &Draft::message("@fred:friend.test", "x"));
        let forged = testkit::hostile::forge(held.version, draft, &friend.name, stage.evil.keys.current());
        stage.not_stored(&forged, "by another key").await;
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn events_without_a_good_signature_are_not_taken() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let good = stage.evil.event(&held, &Draft::message(MALLORY, "signed"));
    for (case, signatures) in [
        ("none", json!({})),
        ("null", Value::Null),
        ("a list", json!([])),
        (
            "of another key id",
            json!({ "evil.test": { "ed25519:other": good.json["signatures"]["evil.test"]["ed25519:k66"] } }),
        ),
        ("zeros", json!({ "evil.test": { "ed25519:k66": "A".repeat(86) } })),
        ("no base64", json!({ "evil.test": { "ed25519:k66": "%%%" } })),
        ("a number", json!({ "evil.test": { "ed25519:k66": 7 } })),
        ("by another server only", json!({ "friend.test": good.json["signatures"]["evil.test"] })),
        ("of no algorithm", json!({ "evil.test": { "k66": good.json["signatures"]["evil.test"]["ed25519:k66"] } })),
    ] {
        stage.not_stored(&good.clone().tampered("signatures", signatures), case).await;
    }
    let flood: serde_json::Map<_, _> = (0..500).map(|n| (format!("ed25519:a{n}"), json!("A".repeat(86)))).collect();
    let asked = stage.questions();
    stage.not_stored(&good.clone().tampered("signatures", json!({ "evil.test": flood })), "five hundred keys").await;
    assert!(stage.questions() <= asked + 2, "each invented key costs a question: {}", stage.questions() - asked);
    stage.goes_on().await;
}

#[tokio::test]
async fn what_was_changed_after_signing_counts_for_nothing() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let good = stage.evil.event(&held, &Draft::message(MALLORY, "as signed"));
    for (field, value) in [
        ("type", json!("m.room.other")),
        ("sender", json!("@alice:hs.test")),
        ("depth", json!(1)),
        ("origin_server_ts", json!(5)),
        ("state_key", json!("")),
        ("prev_events", json!([])),
        ("hashes", json!({ "sha256": "AAAA" })),
    ] {
        let tampered = good.clone().tampered(field, value);
        stage.refused(&tampered, field).await;
        assert!(!stage.look().await.events.contains_key(&good.event_id), "{field}");
    }
    // The content is covered by the content hash alone: the event counts without it.
    let content = json!({ "msgtype": "m.text", "body": "as changed" });
    stage.send(&[&good.clone().tampered("content", content)]).await;
    let held = stage.look().await;
    assert_eq!(held.event(&good.event_id).pdu.content().get(), "{}");
    stage.goes_on().await;
}

#[tokio::test]
async fn events_go_into_no_room_but_their_own() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let other = stage.other_room().await;
        let (held, others) = (stage.look().await, stage.look_at(&other).await);
        // Written for this room, sent as one of the other: with its own references, and with the other's.
        let fields = json!({ "room_id": other.id() });
        let moved = stage.evil.event_with(&held, &Draft::message(MALLORY, "moved"), &fields);
        let written = stage.evil.event(&others, &Draft::message(MALLORY, "not invited"));
        let tampered = stage.evil.event(&held, &Draft::message(MALLORY, "x")).tampered("room_id", json!(other.id()));
        for event in [&moved, &written, &tampered] {
            stage.refused(event, "into another room").await;
            let after = stage.look_at(&other).await;
            assert_eq!((after.accepted(), &after.state), (others.accepted(), &others.state));
        }
        let nowhere =
            stage.evil.event_with(&held, &Draft::message(MALLORY, "x"), &json!({ "room_id": "!nowhere:evil.test" }));
        stage.refused(&nowhere, "into no room").await;
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn a_member_that_vouches_has_to_sign() {
    let stage = Stage::without_mallory("11").await;
    let rule =
        json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": "!gate:hs.test" }] });
    stage.set("m.room.join_rules", "", rule).await;
    let held = stage.look().await;
    let content = json!({ "membership": "join", "join_authorised_via_users_server": "@alice:hs.test" });
    let join = stage.evil.event(&held, &Draft::state(MALLORY, "m.room.member", MALLORY, content));
    stage.not_stored(&join, "not signed by the member's server").await;
    let as_if =
        json!({ "evil.test": join.json["signatures"]["evil.test"], "hs.test": join.json["signatures"]["evil.test"] });
    stage
        .not_stored(&join.clone().tampered("signatures", as_if), "signed by itself in the member's server's name")
        .await;
    let plain = stage.evil.event(&held, &Draft::member(MALLORY, MALLORY, "join"));
    stage.rejected(&plain, "nobody vouches").await;
    assert_eq!(stage.look().await.membership(MALLORY), "");
}

#[tokio::test]
async fn an_event_counts_once_however_often_it_comes() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let event = stage.evil.event(&held, &Draft::message(MALLORY, "once"));
        let ten = [&event; 10];
        stage.send(&ten).await;
        stage.send(&ten).await;
        let held = stage.look().await;
        assert_eq!(held.arrived.iter().filter(|id| **id == event.event_id).count(), 1);
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn a_transaction_is_done_once_whatever_comes_under_its_id_later() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let first = stage.evil.event(&held, &Draft::message(MALLORY, "first"));
    let second = stage.evil.event(&held, &Draft::message(MALLORY, "second"));
    let send = async |event: &Forged| {
        stage.evil.transaction_of(&stage.here.name, "same", std::slice::from_ref(&event.json), &[]).await
    };
    let answer = send(&first).await;
    assert_eq!(answer.error_of(&first), None);
    let again = send(&second).await;
    assert_eq!((again.status, again.body), (answer.status, answer.body));
    let held = stage.look().await;
    assert!(held.events.contains_key(&first.event_id) && !held.events.contains_key(&second.event_id));
    stage.goes_on().await;
}

#[tokio::test]
async fn too_large_a_transaction_is_refused_whole() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let events: Vec<_> =
        (0..51).map(|n| stage.evil.event(&held, &Draft::message(MALLORY, &n.to_string())).json).collect();
    let edus: Vec<_> = (0..101)
        .map(|n| json!({ "edu_type": "m.typing", "content": { "room_id": stage.room.id(), "user_id": MALLORY, "typing": n % 2 == 0 } }))
        .collect();
    for (pdus, edus) in [(&events[..], &[][..]), (&[][..], &edus[..]), (&events[..50], &edus[..])] {
        let answer = stage.evil.transaction_of(&stage.here.name, &stage.evil.new_transaction(), pdus, edus).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        stage.unchanged(&held, "too many").await;
    }
    let answer = stage.evil.transaction_of(&stage.here.name, "whole", &events[..50], &edus[..100]).await;
    assert_eq!(answer.status, StatusCode::OK);
    stage.goes_on().await;
}

#[tokio::test]
async fn a_transaction_in_anothers_name_or_of_no_shape_is_refused() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let event = stage.evil.event(&held, &Draft::message(MALLORY, "x")).json;
    let now = 1_700_000_000_000_u64;
    for (case, body) in [
        ("another's", json!({ "origin": "friend.test", "origin_server_ts": now, "pdus": [event] })),
        ("no list", json!({ "origin": "evil.test", "origin_server_ts": now, "pdus": { "0": event } })),
        ("no events", json!({ "origin": "evil.test", "origin_server_ts": now })),
        ("no origin", json!({ "pdus": [event] })),
        ("a list", json!([event])),
    ] {
        let path = format!("/_matrix/federation/v1/send/{}", stage.evil.new_transaction());
        let answer = stage.ask(Method::PUT, &path, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{case}");
        stage.unchanged(&held, case).await;
    }
    let long = format!("/_matrix/federation/v1/send/{}", "t".repeat(300));
    let body = json!({ "origin": "evil.test", "origin_server_ts": now, "pdus": [event] });
    assert_eq!(stage.ask(Method::PUT, &long, Some(&body)).await.status, StatusCode::BAD_REQUEST);
    stage.goes_on().await;
}

#[tokio::test]
async fn nonsense_beside_a_good_event_does_it_no_harm() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let good = stage.evil.event(&held, &Draft::message(MALLORY, "good"));
    let room = stage.room.id();
    let pdus = [
        json!(null),
        json!(7),
        json!("event"),
        json!([]),
        json!({}),
        json!({ "room_id": 5 }),
        json!({ "room_id": "nonsense" }),
        json!({ "room_id": room }),
        json!({ "room_id": room, "type": "m.room.message", "sender": [] }),
        json!({ "room_id": room, "event_id": good.event_id }),
        good.json.clone(),
    ];
    let edus = [
        json!(null),
        json!([]),
        json!({ "edu_type": 5 }),
        json!({ "edu_type": "m.typing" }),
        json!({ "edu_type": "m.typing", "content": [] }),
    ];
    let answer = stage.evil.transaction_of(&stage.here.name, "mixed", &pdus, &edus).await;
    assert_eq!(answer.error_of(&good), None);
    assert!(stage.look().await.event(&good.event_id).is_accepted());
    stage.goes_on().await;
}
