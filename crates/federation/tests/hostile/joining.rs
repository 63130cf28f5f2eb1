//! A user of the server joins a room of the peer's: whatever the peer answers, the server signs nothing but that join, and takes in no room that isn't
//! what it says.

use http::{Request, StatusCode};
use parking_lot::Mutex;
use rooms::Details;
use ruma::{OwnedRoomId, server_name};
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::{
    held::Held,
    hostile::{Draft, answer_json},
};

use super::stage::{MALLORY, Stage, VERSIONS};

const MAKE: &str = "/_matrix/federation/v1/make_join/";
const SEND: &str = "/_matrix/federation/v2/send_join/";

/// The peer's room, and the joins that were sent to it.
struct Den {
    stage: Stage,
    room: Held,
    sent: Arc<Mutex<Vec<Value>>>,
}

impl Den {
    async fn new(version: &str) -> Self {
        let stage = Stage::without_mallory(version).await;
        let room = stage.evil.public_room(version, MALLORY);
        let den = Self { stage, room, sent: Arc::default() };
        den.template(&den.honest_template());
        let body = den.honest_room();
        den.answers(move |_| body.clone());
        den
    }

    /// The template that a decent server gives.
    fn honest_template(&self) -> Value {
        let draft = Draft::member("@alice:hs.test", "@alice:hs.test", "join");
        json!({ "room_version": self.room.version.as_str(), "event": self.stage.evil.draft(&self.room, &draft) })
    }

    /// The state that a decent server gives.
    fn honest_room(&self) -> Value {
        let state = self.room.state_json();
        json!({ "origin": "evil.test", "state": state, "auth_chain": state, "members_omitted": false })
    }

    fn template(&self, template: &Value) {
        self.stage.evil.scripts.json(MAKE, StatusCode::OK, template);
    }

    /// What `send_join` is answered with, made of the join.
    fn answers(&self, body: impl Fn(&Value) -> Value + Send + Sync + 'static) {
        let sent = self.sent.clone();
        self.stage.evil.scripts.with(SEND, move |request: Request<bytes::Bytes>| {
            let join: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            let answer = answer_json(StatusCode::OK, &body(&join));
            sent.lock().push(join);
            async { answer }
        });
    }

    async fn join(&self) -> bool {
        let via = [server_name!("evil.test").to_owned()];
        let rooms = &self.stage.here.parts.rooms;
        rooms.join(&self.stage.alice, &self.room.room_id, &via, Details::default()).await.is_ok()
    }

    async fn here(&self) -> Option<Held> {
        self.stage.here.parts.held(&self.room.room_id).await
    }

    /// The join fails, Alice is in nothing, and everything else goes on: with a decent answer she can still join.
    async fn refused(&self, case: &str) {
        assert!(!self.join().await, "{case}: she has joined");
        if let Some(held) = self.here().await {
            assert_ne!(held.membership("@alice:hs.test"), "join", "{case}");
        }
        let reader = self.stage.reader().await;
        let joined = self.stage.here.parts.reads.joined_rooms(&reader).await.expect("readable");
        assert!(!joined.contains(&self.room.room_id), "{case}");
        self.stage.say("the other room goes on").await;
    }
}

#[tokio::test]
async fn a_decent_answer_is_a_room() {
    for version in VERSIONS {
        let den = Den::new(version).await;
        assert!(den.join().await, "{version}");
        let held = den.here().await.expect("known");
        assert_eq!(held.membership("@alice:hs.test"), "join");
        assert_eq!(held.membership(MALLORY), "join");
    }
}

#[tokio::test]
async fn of_a_poisoned_template_nothing_is_signed_but_the_join() {
    let elsewhere = OwnedRoomId::try_from("!elsewhere:hs.test").expect("a room id");
    for version in VERSIONS {
        for (field, value) in [
            ("type", json!("m.room.power_levels")),
            ("sender", json!("@admin:hs.test")),
            ("state_key", json!("@admin:hs.test")),
            ("state_key", json!("")),
            ("room_id", json!(elsewhere)),
            ("content", json!({ "membership": "ban" })),
            (
                "content",
                json!({ "membership": "join", "users": { MALLORY: 100 }, "join_authorised_via_users_server": "@alice:hs.test" }),
            ),
            ("origin_server_ts", json!(5)),
            ("redacts", json!("$something")),
            ("extra", json!("signed by hs.test")),
            ("signatures", json!({ "hs.test": { "ed25519:k1": "x" } })),
            ("auth_events", json!(["$a", "$b", "$c", "$d", "$e", "$f", "$g", "$h", "$i", "$j", "$k"])),
            ("prev_events", json!((0..30).map(|n| format!("$prev{n}")).collect::<Vec<_>>())),
            ("prev_events", json!([[]])),
            ("depth", json!("deep")),
        ] {
            let den = Den::new(version).await;
            let mut template = den.honest_template();
            template["event"][field] = value.clone();
            den.template(&template);
            den.join().await;
            for join in den.sent.lock().iter() {
                let case = format!("{field} = {value}: {join}");
                assert_eq!(join["type"], "m.room.member", "{case}");
                assert_eq!(
                    (&join["sender"], &join["state_key"]),
                    (&json!("@alice:hs.test"), &json!("@alice:hs.test")),
                    "{case}"
                );
                assert_eq!(join["room_id"], json!(den.room.room_id), "{case}");
                assert_eq!(join["content"]["membership"], "join", "{case}");
                assert_eq!(join["content"].get("users"), None, "{case}");
                assert_ne!(join["origin_server_ts"], 5, "{case}");
                for field in ["extra", "redacts"] {
                    assert_eq!(join.get(field), None, "{case}");
                }
                assert!(join["prev_events"].as_array().is_some_and(|prev| prev.len() <= 20), "{case}");
                assert!(join["auth_events"].as_array().is_some_and(|auth| auth.len() <= 10), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_template_that_is_none_ends_the_join() {
    for version in VERSIONS {
        let den = Den::new(version).await;
        let honest = den.honest_template();
        let mut unknown = honest.clone();
        unknown["room_version"] = "99".into();
        let mut number = honest.clone();
        number["room_version"] = 12.into();
        for (case, template) in [
            ("nothing", json!({})),
            ("a list", json!([])),
            ("no event", json!({ "room_version": version })),
            ("an event of no shape", json!({ "room_version": version, "event": [] })),
            ("a version that nobody knows", unknown),
            ("a version that is none", number),
        ] {
            den.template(&template);
            den.refused(case).await;
            assert!(den.sent.lock().is_empty(), "{case}: something was signed");
            den.stage.world.clock.advance(std::time::Duration::from_hours(2));
        }
        den.template(&honest);
        assert!(den.join().await, "with a decent answer");
    }
}

#[tokio::test]
async fn a_room_that_is_not_what_it_says_is_not_joined() {
    for version in VERSIONS {
        let den = Den::new(version).await;
        let honest = den.honest_room();
        let evil = &den.stage.evil;
        let other = if version == "10" { "12" } else { "10" };
        let other = evil.public_room(other, MALLORY);
        let without = |kind: &str| {
            let mut room = den.honest_room();
            for list in ["state", "auth_chain"] {
                room[list].as_array_mut().expect("a list").retain(|event| event["type"] != kind);
            }
            room
        };
        let with = |draft: &Draft| {
            let mut room = den.room.clone();
            room.add(&evil.event(&den.room, draft));
            let state = room.state_json();
            json!({ "state": state, "auth_chain": state, "origin": "evil.test" })
        };
        let mut unsigned = honest.clone();
        for list in ["state", "auth_chain"] {
            for event in unsigned[list].as_array_mut().expect("a list") {
                event["signatures"] = json!({ "evil.test": { "ed25519:k66": "A".repeat(86) } });
            }
        }
        let hers = den.stage.look().await;
        let foreign = hers.state_json();
        for (case, answer) in [
            ("nothing", json!({})),
            ("text", json!("welcome")),
            ("no lists", json!({ "state": 5, "auth_chain": {} })),
            ("an empty room", json!({ "state": [], "auth_chain": [] })),
            ("nonsense", json!({ "state": [null, 5, [], {}], "auth_chain": ["x"] })),
            ("without its beginning", without("m.room.create")),
            ("a room for invited only", without("m.room.join_rules")),
            ("another room", json!({ "state": other.state_json(), "auth_chain": other.state_json() })),
            ("a room of her own server's", json!({ "state": foreign, "auth_chain": foreign })),
            ("nothing is signed", unsigned),
            ("she is banned", with(&Draft::member(MALLORY, "@alice:hs.test", "ban"))),
            ("by invitation", with(&Draft::state(MALLORY, "m.room.join_rules", "", json!({ "join_rule": "invite" })))),
        ] {
            den.answers(move |_| answer.clone());
            den.refused(case).await;
            den.stage.world.clock.advance(std::time::Duration::from_hours(2));
        }
        den.answers(move |_| honest.clone());
        assert!(den.join().await, "with a decent answer");
    }
}

#[tokio::test]
async fn events_in_the_given_state_that_nobody_signed_are_left_out() {
    for version in VERSIONS {
        let den = Den::new(version).await;
        let evil = &den.stage.evil;
        let mut room = den.room.clone();
        let admin = evil.event(&room, &Draft::member("@bob:hs.test", "@bob:hs.test", "join"));
        room.add(&admin);
        let friend = evil.event(&room, &Draft::member("@fred:friend.test", "@fred:friend.test", "join"));
        room.add(&friend);
        let state = room.state_json();
        let body = json!({ "state": state, "auth_chain": state, "origin": "evil.test" });
        den.answers(move |_| body.clone());
        assert!(den.join().await);
        let held = den.here().await.expect("known");
        for user in ["@bob:hs.test", "@fred:friend.test"] {
            assert_eq!(held.membership(user), "", "{user} was put in by another server");
        }
        assert_eq!(held.membership("@alice:hs.test"), "join");
    }
}

#[tokio::test]
async fn an_endless_state_is_cut_off() {
    let den = Den::new("12").await;
    den.stage.evil.scripts.bytes(SEND, StatusCode::OK, vec![b'['; 65 << 20]);
    den.refused("65 MiB").await;
    den.stage.world.clock.advance(std::time::Duration::from_hours(2));
    // The same few events, a hundred thousand times.
    let state: Vec<_> = den.room.state_json().into_iter().cycle().take(20_000).collect();
    let body = json!({ "state": state, "auth_chain": state, "origin": "evil.test" });
    den.answers(move |_| body.clone());
    assert!(den.join().await);
    assert!(den.here().await.expect("known").events.len() < 20);
}

/// The peer's refusal is the peer's: whatever its status, it is no 401 of this server's (GHSA-95fh-hv8c-chvq).
#[tokio::test]
async fn a_refusal_is_told_as_the_peers() {
    for status in [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
    ] {
        let den = Den::new("12").await;
        let body = json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "x".repeat(100_000), "soft_logout": true });
        den.stage.evil.scripts.json(MAKE, status, &body);
        let via = [server_name!("evil.test").to_owned()];
        let rooms = &den.stage.here.parts.rooms;
        let error =
            rooms.join(&den.stage.alice, &den.room.room_id, &via, Details::default()).await.expect_err("refused");
        assert!(error.to_string().len() < 1_000, "{status}: {} characters", error.to_string().len());
        den.refused("refused").await;
    }
}
