//! What every script plays on: a server `hs.test` with Alice's public room, and the peer `evil.test`, whose user Mallory is in it.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use rooms::{CreateRoom, Incoming, Outgoing, Preset, Reader, Received, Room};
use ruma::{OwnedEventId, OwnedUserId, canonical_json::CanonicalJsonObject};
use serde_json::{Value, json};
use storage::schema::rooms::Verdict;
use testkit::{
    held::{Held, HeldEvent},
    hostile::{Answer, Draft, Forged, Hostile},
    world::{Server, World},
};

/// The versions that scripts about rules are played in: one with the old resolution and room ids, and the newest.
pub(crate) const VERSIONS: [&str; 2] = ["10", "12"];

/// Mallory, of the peer.
pub(crate) const MALLORY: &str = "@mallory:evil.test";

/// The stage.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) here: Server,
    pub(crate) evil: Hostile,
    pub(crate) alice: OwnedUserId,
    pub(crate) room: Room,
}

/// JSON as canonical JSON.
pub(crate) fn object(value: &Value) -> CanonicalJsonObject {
    serde_json::from_value(value.clone()).expect("canonical JSON")
}

impl Stage {
    /// A public room of that version, with Mallory in it.
    pub(crate) async fn new(version: &str) -> Self {
        let stage = Self::without_mallory(version).await;
        let join = stage.evil.event(&stage.look().await, &Draft::member(MALLORY, MALLORY, "join"));
        stage.hand_in(&join).await;
        assert_eq!(stage.look().await.membership(MALLORY), "join");
        stage
    }

    /// The same, but Mallory is outside.
    pub(crate) async fn without_mallory(version: &str) -> Self {
        let world = World::new();
        let (here, evil) = (world.server("hs.test", 1).await, world.hostile("evil.test", 66));
        let alice = here.user("alice").await;
        let room = Self::room_of(&here, &alice, version).await;
        Self { world, here, evil, alice, room }
    }

    async fn room_of(here: &Server, alice: &OwnedUserId, version: &str) -> Room {
        let create = CreateRoom {
            version: Some(version.to_owned()),
            preset: Some(Preset::PublicChat),
            ..CreateRoom::new(alice.clone())
        };
        let id = here.parts.rooms.create(create).await.expect("created");
        here.parts.rooms.room(&id).await.expect("there")
    }

    /// Another public room of Alice's, without Mallory.
    pub(crate) async fn other_room(&self) -> Room {
        Self::room_of(&self.here, &self.alice, self.room.version().as_str()).await
    }

    /// What the server holds of the room.
    pub(crate) async fn look(&self) -> Held {
        self.look_at(&self.room).await
    }

    /// What the server holds of a room.
    pub(crate) async fn look_at(&self, room: &Room) -> Held {
        self.here.parts.held(room.id()).await.expect("the room is known")
    }

    /// Puts an event into the room past the network, as a good one would come.
    pub(crate) async fn hand_in(&self, event: &Forged) {
        let remote = self.here.parts.rooms.remote().expect("federation");
        let incoming = vec![Incoming::new(event.json.to_string())];
        let received = self.room.receive(incoming, remote).await.expect("received");
        assert_eq!(received, [Received::Stored(event.event_id.clone(), Verdict::Accepted)]);
    }

    /// Alice says something.
    pub(crate) async fn say(&self, body: &str) -> OwnedEventId {
        let content = object(&json!({ "msgtype": "m.text", "body": body }));
        let message = Outgoing::message(self.alice.clone(), "m.room.message", content);
        self.room.send(message).await.expect("sent").event_id
    }

    /// Alice sets state.
    pub(crate) async fn set(&self, kind: &str, key: &str, content: Value) -> OwnedEventId {
        let state = Outgoing::state(self.alice.clone(), kind, key, object(&content));
        self.room.send(state).await.expect("sent").event_id
    }

    /// Mallory may do as much as this power level lets her.
    pub(crate) async fn empower_mallory(&self, level: i64) {
        let held = self.look().await;
        let levels = held.state_event("m.room.power_levels", "").expect("there");
        let mut content: Value = levels.content_as().expect("JSON");
        content["users"][MALLORY] = level.into();
        self.set("m.room.power_levels", "", content).await;
    }

    /// The peer asks the server.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.evil.ask(&self.here.name, method, path, body).await
    }

    /// The peer asks the server for something.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await
    }

    /// Sends events in one transaction, which is answered.
    pub(crate) async fn send(&self, events: &[&Forged]) -> Answer {
        let answer = self.evil.transaction(&self.here.name, events, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer
    }

    /// Sends an event that must not be accepted: it changes neither what was accepted nor the state, and nothing follows it.
    pub(crate) async fn refused(&self, event: &Forged, case: &str) {
        let before = self.look().await;
        self.send(&[event]).await;
        self.unchanged(&before, case).await;
        let after = self.look().await;
        assert!(!after.extremities.contains(&event.event_id), "{case}");
        assert!(!after.arrived.contains(&event.event_id), "{case}: clients were told of it");
    }

    /// The same, and nothing at all is kept.
    pub(crate) async fn not_stored(&self, event: &Forged, case: &str) {
        let before = self.look().await.events.into_keys().collect::<Vec<_>>();
        self.refused(event, case).await;
        assert_eq!(self.look().await.events.into_keys().collect::<Vec<_>>(), before, "{case}: something is stored");
    }

    /// The same, and the event is kept with the verdict that it was rejected.
    pub(crate) async fn rejected(&self, event: &Forged, case: &str) {
        self.refused(event, case).await;
        let held = self.look().await;
        assert!(held.events.get(&event.event_id).is_some_and(HeldEvent::is_rejected), "{case}: it is not rejected");
    }

    /// Nothing that clients see has changed.
    pub(crate) async fn unchanged(&self, before: &Held, case: &str) {
        let after = self.look().await;
        assert_eq!(after.accepted(), before.accepted(), "{case}");
        assert_eq!(after.state, before.state, "{case}");
        assert_eq!(after.arrived, before.arrived, "{case}");
        assert_eq!(after.extremities, before.extremities, "{case}");
    }

    /// A good event of Mallory's passes, and so does one of Alice's; the store is sound.
    pub(crate) async fn goes_on(&self) {
        let held = self.look().await;
        let hers = self.evil.event(&held, &Draft::message(MALLORY, "still here"));
        let answer = self.send(&[&hers]).await;
        assert_eq!(answer.error_of(&hers), None);
        let mine = self.say("still here").await;
        let held = self.look().await;
        assert!(held.event(&hers.event_id).is_accepted() && held.event(&mine).is_accepted());
        assert_eq!(held.extremities, [mine]);
        let told: BTreeSet<_> = held.arrived.iter().collect();
        assert_eq!(told.len(), held.arrived.len(), "an event was told twice");
        let report = self.here.parts.rooms.verify().await.expect("readable");
        assert!(report.faults.is_empty(), "{report:?}");
    }

    /// How many requests the server has sent to the peer.
    pub(crate) fn questions(&self) -> usize {
        self.evil.scripts.asked().len()
    }

    /// Alice, who reads.
    pub(crate) async fn reader(&self) -> Reader {
        let user_nid = self.here.parts.users.nid(&self.alice).await.expect("readable").expect("registered");
        Reader { user_id: self.alice.clone(), user_nid, device_id: None }
    }

    /// An id as it stands in a path or a query.
    pub(crate) fn path(id: impl AsRef<str>) -> String {
        id.as_ref().replace('!', "%21").replace(':', "%3A").replace('$', "%24").replace('/', "%2F").replace('+', "%2B")
    }
}
