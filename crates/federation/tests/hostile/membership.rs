//! The peer's ways into rooms and out of them: it can make its own users join and leave, as the rules let them, and nothing else.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::hostile::{Answer, Draft, Forged};

use super::stage::{MALLORY, Stage, VERSIONS};

impl Stage {
    async fn make(&self, making: &str, room: &str, user: &str) -> Answer {
        let (room, user) = (Self::path(room), Self::path(user));
        self.get(&format!("/_matrix/federation/v1/make_{making}/{room}/{user}?ver=10&ver=11&ver=12")).await
    }

    async fn submit(&self, sending: &str, room: &str, id: &str, event: &Value) -> Answer {
        let (room, id) = (Self::path(room), Self::path(id));
        self.ask(Method::PUT, &format!("/_matrix/federation/v2/send_{sending}/{room}/{id}"), Some(event)).await
    }

    /// Submits an event that must not become part of the room.
    async fn submit_refused(&self, sending: &str, event: &Forged, case: &str) {
        let before = self.look().await;
        let answer = self.submit(sending, self.room.id().as_str(), event.event_id.as_str(), &event.json).await;
        assert!(answer.status.is_client_error(), "{case}: {} {}", answer.status, answer.body);
        self.unchanged(&before, case).await;
        assert!(!self.look().await.events.contains_key(&event.event_id), "{case}: it is stored");
    }
}

#[tokio::test]
async fn it_joins_by_the_real_way_and_is_told_the_room() {
    for version in VERSIONS {
        let stage = Stage::without_mallory(version).await;
        let answer = stage.make("join", stage.room.id().as_str(), MALLORY).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let mut event = answer.body["event"].clone();
        event["origin_server_ts"] = 1_700_000_000_000_u64.into();
        let join = stage.evil.seal(stage.room.version(), event);
        let answer = stage.submit("join", stage.room.id().as_str(), join.event_id.as_str(), &join.json).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(stage.look().await.membership(MALLORY), "join");
        stage.goes_on().await;
        // Once more is no second join.
        let again = stage.submit("join", stage.room.id().as_str(), join.event_id.as_str(), &join.json).await;
        assert!(again.status.is_success() || again.status.is_client_error(), "{}", again.body);
        stage.goes_on().await;
    }
}

#[tokio::test]
async fn no_template_is_made_for_others_users_or_in_rooms_that_are_closed() {
    let stage = Stage::new("12").await;
    let room = stage.room.id().as_str().to_owned();
    for making in ["join", "leave", "knock"] {
        for user in ["@fred:friend.test", "@alice:hs.test", "@mallory:EVIL.test", "nobody"] {
            let answer = stage.make(making, &room, user).await;
            assert!(answer.status.is_client_error(), "{making} {user}: {}", answer.body);
        }
        for room in ["!nowhere:hs.test", "!nowhere:evil.test", "nonsense"] {
            let answer = stage.make(making, room, MALLORY).await;
            assert!(answer.status.is_client_error(), "{making} {room}: {}", answer.body);
        }
    }
    stage.set("m.room.join_rules", "", json!({ "join_rule": "invite" })).await;
    let answer = stage.make("join", &room, "@other:evil.test").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
    stage.set("m.room.server_acl", "", json!({ "allow": ["*"], "deny": ["evil.*"] })).await;
    for making in ["join", "leave", "knock"] {
        let answer = stage.make(making, &room, MALLORY).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{making}: {}", answer.body);
    }
}

#[tokio::test]
async fn nothing_but_a_join_is_taken_as_one() {
    for version in VERSIONS {
        let stage = Stage::without_mallory(version).await;
        let other = stage.other_room().await;
        let held = stage.look().await;
        let join = Draft::member(MALLORY, MALLORY, "join");
        let other_user = Draft::member(MALLORY, "@friend:evil.test", "join");
        let forged = Draft::member("@alice:hs.test", "@alice:hs.test", "join");
        let message = Draft::message(MALLORY, "not a join");
        for (case, draft) in [
            ("a message", &message),
            ("another user's", &other_user),
            ("an event of Alice's", &forged),
            ("a leave", &Draft::member(MALLORY, MALLORY, "leave")),
            ("a ban", &Draft::member(MALLORY, "@alice:hs.test", "ban")),
            ("power", &Draft::state(MALLORY, "m.room.power_levels", "", json!({}))),
            ("a membership that is none", &Draft::member(MALLORY, MALLORY, "owner")),
        ] {
            stage.submit_refused("join", &stage.evil.event(&held, draft), case).await;
        }
        let elsewhere = stage.evil.event_with(&held, &join, &json!({ "room_id": other.id() }));
        stage.submit_refused("join", &elsewhere, "of another room").await;
        let good = stage.evil.event(&held, &join);
        stage.submit_refused("join", &good.clone().tampered("signatures", json!({})), "not signed").await;
        stage.submit_refused("join", &good.clone().tampered("prev_events", json!(["$x"])), "changed").await;
        // Under another event's id, and in another room's path.
        let answer = stage.submit("join", stage.room.id().as_str(), "$another", &good.json).await;
        assert!(answer.status.is_client_error(), "{}", answer.body);
        let answer = stage.submit("join", other.id().as_str(), good.event_id.as_str(), &good.json).await;
        assert!(answer.status.is_client_error(), "{}", answer.body);
        stage.unchanged(&held, "paths").await;
        // The banned are not let in by events from before the ban.
        stage.set("m.room.member", MALLORY, json!({ "membership": "ban" })).await;
        let (banned, from_before) = (stage.look().await, stage.evil.event(&held, &join));
        let path = stage.room.id().as_str();
        let answer = stage.submit("join", path, from_before.event_id.as_str(), &from_before.json).await;
        assert!(answer.status.is_client_error(), "{}", answer.body);
        stage.unchanged(&banned, "banned").await;
        stage.say("the room goes on").await;
    }
}

#[tokio::test]
async fn nobody_is_seen_out_by_another() {
    for version in VERSIONS {
        let stage = Stage::new(version).await;
        stage.empower_mallory(50).await;
        let held = stage.look().await;
        for (case, draft) in [
            ("Alice is kicked", Draft::member(MALLORY, "@alice:hs.test", "leave")),
            ("in Alice's name", Draft::member("@alice:hs.test", "@alice:hs.test", "leave")),
            ("a ban", Draft::member(MALLORY, MALLORY, "ban")),
            ("a message", Draft::message(MALLORY, "bye")),
        ] {
            stage.submit_refused("leave", &stage.evil.event(&held, &draft), case).await;
        }
        let leave = stage.evil.event(&held, &Draft::member(MALLORY, MALLORY, "leave"));
        let answer = stage.submit("leave", stage.room.id().as_str(), leave.event_id.as_str(), &leave.json).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(stage.look().await.membership(MALLORY), "leave");
    }
}
