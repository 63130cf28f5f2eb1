//! The rules of rooms: what Mallory may not do, in every way that she could try to get it done.

use std::time::Duration;

use ruma::OwnedEventId;
use serde_json::{Value, json};
use testkit::{
    held::Held,
    hostile::{Draft, Forged, references},
};

use super::stage::{MALLORY, Stage, VERSIONS};

impl Stage {
    /// An event on top of the room as it was after some event, authorised by the state as it was looked at then.
    fn after(&self, then: &Held, prev: &[OwnedEventId], draft: &Draft) -> Forged {
        self.evil.event_with(then, draft, &json!({ "prev_events": references(then, prev) }))
    }

    /// The current value of a field of a state event's content.
    async fn state_says(&self, kind: &str, field: &str) -> Value {
        let held = self.look().await;
        let event = held.state_event(kind, "").expect("there");
        event.content_as::<Value>().expect("JSON")[field].clone()
    }
}

#[tokio::test]
async fn nobody_takes_power_that_they_were_not_given() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        stage.empower_mallory(50).await;
        let held = stage.look().await;
        let levels: Value = held.state_event("m.room.power_levels", "").expect("there").content_as().expect("JSON");
        let with = |path: &str, user: &str, level: Value| {
            let mut levels = levels.clone();
            levels[path][user] = level;
            Draft::state(MALLORY, "m.room.power_levels", "", levels)
        };
        let mut empty = levels.clone();
        empty["users"] = json!({});
        empty["users_default"] = json!(100);
        for (case, draft) in [
            ("more for herself", with("users", MALLORY, json!(51))),
            ("more for a friend", with("users", "@friend:evil.test", json!(100))),
            ("a string of digits", with("users", MALLORY, json!("100"))),
            ("a user that is none", with("users", "not a user", json!(1))),
            ("all for everybody", Draft::state(MALLORY, "m.room.power_levels", "", empty)),
            ("Alice is banned", Draft::member(MALLORY, "@alice:hs.test", "ban")),
            ("Alice is kicked", Draft::member(MALLORY, "@alice:hs.test", "leave")),
            ("another joins by her", Draft::member(MALLORY, "@friend:evil.test", "join")),
            ("the room is for nobody", Draft::state(MALLORY, "m.room.encryption", "", json!({}))),
            ("Alice's own state", Draft::state(MALLORY, "m.custom", "@alice:hs.test", json!({}))),
            ("no membership", Draft::state(MALLORY, "m.room.member", MALLORY, json!({ "membership": "owner" }))),
        ] {
            stage.rejected(&stage.evil.event(&held, &draft), case).await;
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn a_room_begins_once() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        stage.empower_mallory(100).await;
        let held = stage.look().await;
        let content = json!({ "creator": MALLORY, "room_version": version });
        let create = Draft::state(MALLORY, "m.room.create", "", content);
        for (case, fields) in [
            ("on top", json!({})),
            ("from nothing", json!({ "prev_events": [], "auth_events": [], "depth": 1 })),
            ("without auth events", json!({ "auth_events": [] })),
            ("under another key", json!({ "state_key": "x" })),
        ] {
            let mut event = stage.evil.draft(&held, &create);
            for (name, value) in fields.as_object().expect("an object") {
                event[name] = value.clone();
            }
            let event = stage.evil.seal(held.version, event);
            stage.refused(&event, case).await;
            assert_eq!(stage.state_says("m.room.create", "room_version").await, version, "{case}");
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn nothing_stands_before_the_beginning_or_beside_it() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let create = held.state[&("m.room.create".to_owned(), String::new())].clone();
        for (case, prev) in [("no prev events", vec![]), ("only the beginning", vec![create])] {
            let event = stage.after(&held, &prev, &Draft::message(MALLORY, case));
            stage.rejected(&event, case).await;
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn auth_events_that_do_not_belong_make_an_event_nothing() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let other = stage.other_room().await;
        let (held, others) = (stage.look().await, stage.look_at(&other).await);
        let id = |held: &Held, kind: &str, key: &str| held.state[&(kind.to_owned(), key.to_owned())].clone();
        let draft = Draft::message(MALLORY, "by what right");
        let good: Vec<OwnedEventId> =
            serde_json::from_value(stage.evil.draft(&held, &draft)["auth_events"].clone()).expect("ids");
        let with = |more: &[OwnedEventId]| json!({ "auth_events": ([&good[..], more].concat()) });
        let message = held.extremities[0].clone();
        for (case, fields) in [
            ("of another room", with(&[id(&others, "m.room.join_rules", "")])),
            ("twice the same", with(&[id(&held, "m.room.power_levels", "")])),
            ("one that says nothing to it", with(&[id(&held, "m.room.history_visibility", "")])),
            ("another's membership", with(&[id(&held, "m.room.member", "@alice:hs.test")])),
            ("no state at all", with(&[message])),
            ("none", json!({ "auth_events": [] })),
            ("all of another room", json!({ "auth_events": [id(&others, "m.room.power_levels", "")] })),
        ] {
            let event = stage.evil.event_with(&held, &draft, &fields);
            stage.refused(&event, case).await;
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn what_was_rejected_never_comes_back_as_state_or_as_a_right() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let held = stage.look().await;
        let levels = json!({ "users": { MALLORY: 100, "@alice:hs.test": 0 } });
        let coup = stage.evil.event(&held, &Draft::state(MALLORY, "m.room.power_levels", "", levels));
        stage.rejected(&coup, "the coup").await;
        // The rejected event again, as prev event, as auth event, and as both.
        stage.rejected(&coup, "again").await;
        let topic = Draft::state(MALLORY, "m.room.topic", "", json!({ "topic": "mine" }));
        let good: Vec<OwnedEventId> =
            serde_json::from_value(stage.evil.draft(&held, &topic)["auth_events"].clone()).expect("ids");
        let levels = &held.state[&("m.room.power_levels".to_owned(), String::new())];
        let cited: Vec<_> = good.iter().map(|id| if id == levels { &coup.event_id } else { id }).collect();
        let on_top = json!([coup.event_id]);
        for (case, fields) in [
            ("as auth event", json!({ "auth_events": cited })),
            ("as prev event", json!({ "prev_events": on_top })),
            ("as both", json!({ "auth_events": cited, "prev_events": on_top })),
        ] {
            stage.rejected(&stage.evil.event_with(&held, &topic, &fields), case).await;
        }
        // A message may follow it: what it did is still not done.
        let after = stage.evil.event_with(&held, &Draft::message(MALLORY, "after"), &json!({ "prev_events": on_top }));
        stage.send(&[&after]).await;
        let state = stage.look().await.state;
        assert_eq!(state, held.state, "the rejected event became state");
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn redactions_need_power_and_stay_in_their_room() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        let other = stage.other_room().await;
        let said = stage.say("keep this").await;
        let others = stage.look_at(&other).await;
        let others_create = others.state[&("m.room.create".to_owned(), String::new())].clone();
        let held = stage.look().await;
        let create = held.state[&("m.room.create".to_owned(), String::new())].clone();
        for (case, target) in
            [("Alice's message", &said), ("the beginning", &create), ("another room's beginning", &others_create)]
        {
            let held = stage.look().await;
            let in_content = held.version.redacts_in_content();
            let content = if in_content { json!({ "redacts": target }) } else { json!({}) };
            let draft = Draft { kind: "m.room.redaction".to_owned(), content, ..Draft::message(MALLORY, "") };
            let fields = if in_content { json!({}) } else { json!({ "redacts": target }) };
            let redaction = stage.evil.event_with(&held, &draft, &fields);
            stage.send(&[&redaction]).await;
            let reader = stage.reader().await;
            let shown = stage.here.parts.reads.event(&reader, stage.room.id(), &said).await.expect("shown");
            assert!(shown.unsigned.redacted_because.is_none(), "{case}");
            let content = stage.look().await.event(&create).pdu.content().get().to_owned();
            assert!(content.contains("room_version"), "{case}");
            assert_eq!(
                stage.look_at(&other).await.event(&others_create).pdu.json(),
                others.event(&others_create).pdu.json()
            );
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn a_ban_holds_against_events_from_before_it() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        stage.empower_mallory(50).await;
        stage.set("m.room.topic", "", json!({ "topic": "Alice's" })).await;
        let then = stage.look().await;
        stage.set("m.room.member", MALLORY, json!({ "membership": "ban" })).await;
        // As if they had been made before: by the rules at that place they are good, so they are kept, and nobody is told.
        for draft in [
            Draft::message(MALLORY, "I was never banned"),
            Draft::state(MALLORY, "m.room.topic", "", json!({ "topic": "mine" })),
            Draft::member(MALLORY, MALLORY, "join"),
            Draft::member(MALLORY, "@friend:evil.test", "invite"),
        ] {
            let event = stage.after(&then, &then.extremities, &draft);
            stage.refused(&event, &draft.kind).await;
        }
        assert_eq!(stage.state_says("m.room.topic", "topic").await, "Alice's");
        assert_eq!(stage.look().await.membership(MALLORY), "ban");
        let now = stage.look().await;
        stage.rejected(&stage.evil.event(&now, &Draft::message(MALLORY, "now")), "after the ban").await;
        stage.say("the room goes on").await;
    }
}

/// Events from before she lost her power, a whole branch of them: the state is not reset to what it was then.
#[tokio::test]
async fn a_branch_from_before_a_demotion_resets_no_state() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        stage.empower_mallory(50).await;
        let then = stage.look().await;
        let mut prev = then.extremities.clone();
        stage.empower_mallory(0).await;
        stage.set("m.room.join_rules", "", json!({ "join_rule": "invite" })).await;
        stage.set("m.room.topic", "", json!({ "topic": "Alice's" })).await;
        let before = stage.look().await;
        let mut branch = Vec::new();
        for n in 0..30 {
            let draft = match n % 3 {
                0 => Draft::state(MALLORY, "m.room.topic", "", json!({ "topic": format!("mine {n}") })),
                1 => Draft::state(MALLORY, "m.room.join_rules", "", json!({ "join_rule": "public", "n": n })),
                _ => Draft::message(MALLORY, &n.to_string()),
            };
            let event = stage.after(&then, &prev, &draft);
            prev = vec![event.event_id.clone()];
            branch.push(event);
        }
        stage.send(&branch.iter().collect::<Vec<_>>()).await;
        stage.say("Alice goes on").await;
        let after = stage.look().await;
        let of = |held: &Held, kind: &str| held.state[&(kind.to_owned(), String::new())].clone();
        for kind in ["m.room.power_levels", "m.room.topic", "m.room.join_rules", "m.room.create"] {
            assert_eq!(of(&after, kind), of(&before, kind), "{version} {kind}");
        }
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn a_thousand_forks_leave_few_extremities() {
    let stage = Stage::new("12").await;
    let then = stage.look().await;
    for page in 0..20 {
        let events: Vec<_> = (0..50)
            .map(|n| stage.after(&then, &then.extremities, &Draft::message(MALLORY, &format!("{page} {n}"))))
            .collect();
        stage.send(&events.iter().collect::<Vec<_>>()).await;
        let held = stage.look().await;
        assert!(held.extremities.len() <= 64, "{}", held.extremities.len());
    }
    stage.say("Alice goes on").await;
    stage.goes_on().await;
}

#[tokio::test]
async fn a_long_auth_chain_costs_no_more_than_its_length() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        // Each member event cites the one before.
        for page in 0..10 {
            let mut held = stage.look().await;
            let mut events = Vec::new();
            for n in 0..50 {
                let content = json!({ "membership": "join", "displayname": format!("{page} {n}") });
                let event = stage.evil.event(&held, &Draft::state(MALLORY, "m.room.member", MALLORY, content));
                held.add(&event);
                events.push(event);
            }
            let answer = stage.send(&events.iter().collect::<Vec<_>>()).await;
            assert!(events.iter().all(|event| answer.error_of(event).is_none()), "{}", answer.body);
        }
        stage.goes_on().await;
    }
}

/// In the oldest versions a server chooses the ids of its events, so that two can cite each other and one can cite itself.
#[tokio::test]
async fn events_that_cite_each_other_in_a_circle_are_never_judged() {
    let stage = Stage::new("2").await;
    let held = stage.look().await;
    let pair = |id: &str| json!([id, { "sha256": "A".repeat(43) }]);
    let circle = |own: &str, cites: &str, field: &str| {
        let mut event = stage.evil.draft(&held, &Draft::message(MALLORY, own));
        event["event_id"] = own.into();
        event[field].as_array_mut().expect("a list").push(pair(cites));
        stage.evil.seal(held.version, event)
    };
    let questions = stage.questions();
    for field in ["auth_events", "prev_events"] {
        let (a, b) = (circle("$a:evil.test", "$b:evil.test", field), circle("$b:evil.test", "$a:evil.test", field));
        let own = circle("$own:evil.test", "$own:evil.test", field);
        stage.send(&[&a, &b, &own]).await;
        stage.unchanged(&held, field).await;
        assert!(!stage.look().await.events.contains_key(&own.event_id), "{field}");
    }
    assert!(stage.questions() <= questions + 60, "{}", stage.questions() - questions);
    stage.goes_on().await;
}

#[tokio::test]
async fn an_acl_keeps_out_what_it_names_however_it_is_spelt() {
    for version in VERSIONS {
        for entry in ["evil.test", "EVIL.TEST", "e?il.test", "*.test", "*"] {
            let stage = Stage::new(version).await;
            stage.set("m.room.server_acl", "", json!({ "allow": ["*"], "deny": [entry] })).await;
            let held = stage.look().await;
            let event = stage.evil.event(&held, &Draft::message(MALLORY, "still here"));
            stage.not_stored(&event, entry).await;
            let older = stage.evil.event_with(&held, &Draft::message(MALLORY, "x"), &json!({ "origin_server_ts": 5 }));
            stage.not_stored(&older, entry).await;
        }
    }
}

#[tokio::test]
async fn an_acl_of_a_thousand_stars_costs_nothing() {
    let stage = Stage::new("12").await;
    let bomb = format!("{}b", "*a".repeat(10_000));
    let deny: Vec<_> = (0..20).map(|n| format!("{n}{}", &bomb[..2_000])).collect();
    stage.set("m.room.server_acl", "", json!({ "allow": ["*"], "deny": deny })).await;
    tokio::time::timeout(Duration::from_secs(20), stage.goes_on()).await.expect("in time");
}
