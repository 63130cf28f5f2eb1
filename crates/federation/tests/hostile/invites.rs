//! Invites of the peer's: the server signs one that is an invite of its own user by a user of the peer, and nothing else (CVE-2025-68667).

use http::{Method, StatusCode};
use rooms::sync::SyncRequest;
use serde_json::{Value, json};
use testkit::{
    held::Held,
    hostile::{Answer, Draft, Forged},
};

use super::stage::{MALLORY, Stage, VERSIONS};

/// An invite as it is sent, with the rooms and ids that its path names.
struct Invite<'a> {
    room: &'a str,
    event_id: &'a str,
    version: &'a str,
    event: &'a Value,
    state: Value,
}

impl<'a> Invite<'a> {
    fn of(den: &'a Held, event: &'a Forged) -> Self {
        let (room, event_id) = (den.room_id.as_str(), event.event_id.as_str());
        Self { room, event_id, version: den.version.as_str(), event: &event.json, state: stripped(den) }
    }
}

fn stripped(den: &Held) -> Value {
    den.state_json().into()
}

impl Stage {
    async fn invite(&self, invite: &Invite<'_>) -> Answer {
        let (room, event_id) = (Self::path(invite.room), Self::path(invite.event_id));
        let body = json!({ "room_version": invite.version, "event": invite.event, "invite_room_state": invite.state });
        self.ask(Method::PUT, &format!("/_matrix/federation/v2/invite/{room}/{event_id}"), Some(&body)).await
    }

    /// The rooms that Alice is invited to, as a sync tells her.
    async fn invited(&self) -> Vec<String> {
        let reader = self.reader().await;
        let synced = self.here.parts.reads.sync(&reader, SyncRequest::default()).await.expect("synced");
        synced.rooms.invite.keys().map(ToString::to_string).collect()
    }

    async fn invite_refused(&self, invite: &Invite<'_>, case: &str) {
        let answer = self.invite(invite).await;
        assert!(answer.status.is_client_error(), "{case}: {} {}", answer.status, answer.body);
        assert!(!answer.body.to_string().contains("signatures"), "{case}: it is signed: {}", answer.body);
        assert!(self.invited().await.is_empty(), "{case}: Alice is invited");
    }
}

#[tokio::test]
async fn nothing_but_an_invite_is_signed() {
    for version in VERSIONS {
        let stage = Stage::without_mallory(version).await;
        let den = stage.evil.public_room(version, MALLORY);
        let alice = "@alice:hs.test";
        for (case, draft) in [
            ("a message", Draft::message(MALLORY, "sign this")),
            ("power", Draft::state(MALLORY, "m.room.power_levels", "", json!({ "users": { alice: 0 } }))),
            ("a join", Draft::member(MALLORY, alice, "join")),
            ("a ban", Draft::member(MALLORY, alice, "ban")),
            ("a leave of Alice's", Draft::member(alice, alice, "leave")),
            ("in a local user's name", Draft::member("@bob:hs.test", alice, "invite")),
            ("in another server's user's name", Draft::member("@fred:friend.test", alice, "invite")),
            ("of another server's user", Draft::member(MALLORY, "@fred:friend.test", "invite")),
            ("of its own user", Draft::member(MALLORY, "@friend:evil.test", "invite")),
            ("of nobody", Draft::member(MALLORY, "nobody", "invite")),
        ] {
            let event = stage.evil.event(&den, &draft);
            stage.invite_refused(&Invite::of(&den, &event), case).await;
        }
        stage.say("the room goes on").await;
    }
}

#[tokio::test]
async fn an_invite_is_what_its_path_says_and_signed() {
    for version in VERSIONS {
        let stage = Stage::without_mallory(version).await;
        let den = stage.evil.public_room(version, MALLORY);
        let good = stage.evil.event(&den, &Draft::member(MALLORY, "@alice:hs.test", "invite"));
        let unsigned = good.clone().tampered("signatures", json!({}));
        let changed = good.clone().tampered("content", json!({ "membership": "join" }));
        let local = stage.room.id().as_str();
        stage.invite_refused(&Invite { room: "!other:evil.test", ..Invite::of(&den, &good) }, "another room").await;
        stage.invite_refused(&Invite { room: local, ..Invite::of(&den, &good) }, "a room here").await;
        stage.invite_refused(&Invite { event_id: "$other", ..Invite::of(&den, &good) }, "another event").await;
        stage.invite_refused(&Invite { version: "99", ..Invite::of(&den, &good) }, "no version").await;
        stage.invite_refused(&Invite::of(&den, &unsigned), "not signed").await;
        stage.invite_refused(&Invite { event: &json!([]), ..Invite::of(&den, &good) }, "no event").await;
        stage.invite_refused(&Invite { event: &changed.json, ..Invite::of(&den, &good) }, "changed").await;
        let answer = stage.invite(&Invite::of(&den, &good)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(stage.invited().await, [den.room_id.to_string()]);
    }
}
