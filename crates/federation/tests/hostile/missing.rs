//! Events that need others first, and a peer that is asked for those: it says nothing, nonsense, too much, or something new for ever.

use std::{cell::Cell, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use parking_lot::Mutex;
use primitives::ServerKey;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use testkit::{
    held::Held,
    hostile::{Draft, Forged, answer_json, forge, raw_draft},
};

use super::stage::{MALLORY, Stage, VERSIONS};

/// Everything that a server asks another for.
const PATHS: [&str; 6] = ["get_missing_events", "state_ids", "state", "event_auth", "event", "backfill"];

/// One more question than the server has for one event.
const TOO_MANY: usize = 601;

fn path(name: &str) -> String {
    format!("/_matrix/federation/v1/{name}")
}

impl Stage {
    /// Answers every question with the same bytes.
    fn answer_all(&self, body: &[u8]) {
        for name in PATHS {
            self.evil.scripts.bytes(&path(name), StatusCode::OK, body.to_vec());
        }
    }

    /// An event that follows one which nobody has seen.
    fn dangling(&self, held: &Held, body: &str, prev: &str) -> Forged {
        self.evil.event_with(held, &Draft::message(MALLORY, body), &json!({ "prev_events": [prev] }))
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_not_asked_for_ever() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let asked = stage.questions();
        for field in ["prev_events", "auth_events"] {
            let event = stage.evil.event_with(&held, &Draft::message(MALLORY, "x"), &json!({ field: ["$unheard-of"] }));
            stage.not_stored(&event, field).await;
        }
        assert!(stage.questions() - asked < TOO_MANY, "{} questions", stage.questions() - asked);
        // Again and again.
        let asked = stage.questions();
        for n in 0..20 {
            let event = stage.dangling(&held, &n.to_string(), "$unheard-of");
            stage.send(&[&event]).await;
        }
        assert!(stage.questions() - asked < 20 * 10, "{} questions", stage.questions() - asked);
        stage.unchanged(&held, "nothing").await;
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn nonsense_in_answers_is_worth_nothing() {
    let nothing = json!({ "pdus": [], "events": [], "auth_chain": [], "pdu_ids": [], "auth_chain_ids": [] });
    let wrong = json!({ "pdus": 5, "events": "x", "auth_chain": {}, "pdu_ids": [5, null], "auth_chain_ids": [[]] });
    let hollow = json!({ "pdus": [null, 5, {}, []], "events": [null, 5, {}, []], "auth_chain": [null], "pdu_ids": ["x"], "auth_chain_ids": ["$"] });
    for body in [
        b"no JSON".to_vec(),
        b"".to_vec(),
        b"[]".to_vec(),
        vec![b'['; 1 << 20],
        vec![b' '; 33 << 20],
        nothing.to_string().into_bytes(),
        wrong.to_string().into_bytes(),
        hollow.to_string().into_bytes(),
    ] {
        let case = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let stage = Stage::new("12").await;
        let held = stage.look().await;
        stage.answer_all(&body);
        let asked = stage.questions();
        for field in ["prev_events", "auth_events"] {
            let event = stage.evil.event_with(&held, &Draft::message(MALLORY, "x"), &json!({ field: ["$unheard-of"] }));
            stage.refused(&event, &case).await;
        }
        assert!(stage.questions() - asked < TOO_MANY, "{case}: {} questions", stage.questions() - asked);
        assert_eq!(stage.look().await.events.len(), held.events.len(), "{case}");
        stage.evil.scripts.clear();
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn events_of_other_rooms_and_in_others_names_are_no_answer() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let other = stage.other_room().await;
        let (held, others) = (stage.look().await, stage.look_at(&other).await);
        let foreign = others.events[&others.extremities[0]].pdu.json().to_owned();
        let foreign: Value = serde_json::from_str(&foreign).expect("JSON");
        let forged = stage.evil.event(&held, &Draft::message("@alice:hs.test", "I am Alice"));
        let written = stage.evil.event(&others, &Draft::message(MALLORY, "not in there"));
        let events = [foreign, forged.json.clone(), written.json.clone()];
        let ids = json!([others.extremities[0], forged.event_id, written.event_id]);
        let answer =
            json!({ "events": events, "pdus": events, "auth_chain": events, "pdu_ids": ids, "auth_chain_ids": ids });
        stage.answer_all(answer.to_string().as_bytes());
        for prev in [&others.extremities[0], &forged.event_id, &written.event_id] {
            let event = stage.dangling(&held, "x", prev.as_str());
            stage.refused(&event, "on top of another room").await;
            let held = stage.look().await;
            assert!(!held.events.contains_key(prev), "{prev} is in the room");
        }
        assert_eq!(stage.look_at(&other).await.accepted(), others.accepted());
        stage.evil.scripts.clear();
        stage.goes_on().await;
    }
}

/// Whatever event is asked for, another one comes, which needs yet another.
#[tokio::test]
async fn a_history_without_beginning_ends() {
    for version in VERSIONS {
        for field in ["prev_events", "auth_events"] {
            let stage = Stage::new(version).await;
            let held = stage.look().await;
            let key = Arc::new(ServerKey::new("k66", [66; 32]).expect("a key"));
            let count = Arc::new(Mutex::new(0_u64));
            let endless = {
                let (held, name) = (held.clone(), stage.evil.name.clone());
                move |_: Request<Bytes>| {
                    let mut events = Vec::new();
                    let mut next: Option<OwnedEventId> = None;
                    for _ in 0..20 {
                        *count.lock() += 1;
                        let mut event = raw_draft(&held, *count.lock(), &Draft::message(MALLORY, "older"));
                        let needs =
                            next.as_ref().map_or_else(|| format!("$older{}", *count.lock()), ToString::to_string);
                        event[field] = json!([needs]);
                        let forged = forge(held.version, event, &name, &key);
                        next = Some(forged.event_id.clone());
                        events.push(forged);
                    }
                    events.reverse();
                    let ids: Vec<_> = events.iter().map(|event| event.event_id.clone()).collect();
                    let events: Vec<_> = events.into_iter().map(|event| event.json).collect();
                    let body = json!({ "events": events, "pdus": events, "auth_chain": events, "pdu_ids": ids, "auth_chain_ids": ids });
                    let answer = answer_json(StatusCode::OK, &body);
                    async { answer }
                }
            };
            for name in PATHS {
                stage.evil.scripts.with(&path(name), endless.clone());
            }
            let asked = stage.questions();
            let event = stage.evil.event_with(&held, &Draft::message(MALLORY, "x"), &json!({ field: ["$older"] }));
            stage.refused(&event, field).await;
            assert!(stage.questions() - asked < TOO_MANY, "{field}: {} questions", stage.questions() - asked);
            stage.evil.scripts.clear();
            stage.goes_on().await;
        }
    }
}

#[tokio::test]
async fn a_giant_state_of_nothing_is_given_up() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    let ids: Vec<_> = (0..100_000).map(|n| format!("$state{n}")).collect();
    let state = json!({ "pdu_ids": ids, "auth_chain_ids": ids });
    stage.evil.scripts.json(&path("get_missing_events"), StatusCode::OK, &json!({ "events": [] }));
    stage.evil.scripts.json(&path("state_ids"), StatusCode::OK, &state);
    let asked = stage.questions();
    let event = stage.dangling(&held, "x", "$unheard-of");
    stage.refused(&event, "a giant state").await;
    assert!(stage.questions() - asked < TOO_MANY, "{} questions", stage.questions() - asked);
    assert_eq!(stage.look().await.events.len(), held.events.len());
    stage.evil.scripts.clear();
    stage.goes_on().await;
}

/// The peer says that the state before its event was quite another: one in which it has all power.
#[tokio::test]
async fn a_state_of_its_own_making_gives_it_no_power() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let id = |kind: &str, key: &str| held.state[&(kind.to_owned(), key.to_owned())].clone();
        let levels = json!({ "users": { MALLORY: 100 } });
        let coup = stage.evil.event(&held, &Draft::state(MALLORY, "m.room.power_levels", "", levels));
        let ids =
            json!([id("m.room.create", ""), id("m.room.join_rules", ""), id("m.room.member", MALLORY), coup.event_id]);
        stage.evil.scripts.json(&path("get_missing_events"), StatusCode::OK, &json!({ "events": [] }));
        stage.evil.scripts.json(&path("state_ids"), StatusCode::OK, &json!({ "pdu_ids": ids, "auth_chain_ids": ids }));
        stage.evil.scripts.json(&path("event"), StatusCode::OK, &json!({ "pdus": [coup.json] }));
        stage.evil.scripts.json(&path("state"), StatusCode::OK, &json!({ "pdus": [coup.json], "auth_chain": [] }));
        for draft in [
            Draft::state(MALLORY, "m.room.topic", "", json!({ "topic": "mine" })),
            Draft::member(MALLORY, "@alice:hs.test", "ban"),
        ] {
            let event = stage.evil.event_with(&held, &draft, &json!({ "prev_events": ["$unheard-of"] }));
            stage.send(&[&event]).await;
            let after = stage.look().await;
            assert_eq!(after.state, held.state, "{version} {}", draft.kind);
        }
        stage.evil.scripts.clear();
        stage.goes_on().await;
    }
}

/// A peer that takes an hour for each answer holds up nothing but its own events.
#[tokio::test]
async fn a_slow_peer_holds_up_nobody_else() {
    let stage = Stage::new("12").await;
    let held = stage.look().await;
    for name in PATHS {
        stage.evil.scripts.late(&path(name), Duration::from_hours(1), StatusCode::OK, &json!({}));
    }
    let slow = stage.dangling(&held, "slow", "$unheard-of");
    let done = Cell::new(false);
    let sending = async {
        let answer = stage.send(&[&slow]).await;
        done.set(true);
        answer
    };
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!done.get(), "the peer is not waited for");
        stage.say("Alice is not held up").await;
        let other = stage.other_room().await;
        assert!(!stage.look_at(&other).await.events.is_empty());
        // Nor is what the peer sends of what needs nothing.
        let fast = stage.evil.event(&stage.look().await, &Draft::message(MALLORY, "fast"));
        let sent = tokio::time::timeout(Duration::from_secs(5), stage.send(&[&fast])).await;
        assert_eq!(sent.expect("it waits for the slow one").error_of(&fast), None);
        for _ in 0..400 {
            stage.world.clock.advance(Duration::from_secs(30));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let both = async { tokio::join!(sending, meanwhile) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("it ends");
    assert_eq!(answer.error_of(&slow), None, "it is neither good nor bad");
    assert!(!stage.look().await.events.contains_key(&slow.event_id));
}
