//! A server that makes events by itself in a room of another, and hands them in as if they had just come.

use federation_client::calls::events::RawPdu;
use primitives::UnixMillis;
use rooms::{
    Incoming, Outgoing, Pdu, Reader, Received, Room,
    auth::auth_types_for,
    pdu::{BuildInput, build},
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, UserId, canonical_json::CanonicalJsonObject};
use serde_json::{Value, json};
use testkit::world::Server;

/// JSON as canonical JSON.
pub(crate) fn object(value: &Value) -> CanonicalJsonObject {
    serde_json::from_value(value.clone()).expect("canonical JSON")
}

/// A room of `here`, made by `alice`, and a server `there` that writes in it.
pub(crate) struct Far<'a> {
    pub(crate) here: &'a Server,
    pub(crate) there: &'a Server,
    pub(crate) room: Room,
    pub(crate) alice: OwnedUserId,
    /// A user of the far server.
    pub(crate) bob: OwnedUserId,
    /// The event that the next one follows.
    pub(crate) last: OwnedEventId,
}

impl<'a> Far<'a> {
    /// A public room with this history visibility, in which nobody of the far server is.
    pub(crate) async fn outside(here: &'a Server, there: &'a Server, version: &str, visibility: &str) -> Self {
        let (alice, bob) = (here.user("alice").await, there.user("bob").await);
        let create = rooms::CreateRoom {
            version: Some(version.to_owned()),
            preset: Some(rooms::Preset::PublicChat),
            ..rooms::CreateRoom::new(alice.clone())
        };
        let id = here.parts.rooms.create(create).await.expect("created");
        let room = here.parts.rooms.room(&id).await.expect("there");
        let mut far = Self { here, there, room, alice, bob, last: ruma::event_id!("$none").to_owned() };
        far.set("m.room.history_visibility", "", json!({ "history_visibility": visibility })).await;
        // State that is so already makes no event.
        far.say("begin").await;
        far
    }

    /// The same, which the far server's user has joined.
    pub(crate) async fn joined(here: &'a Server, there: &'a Server, version: &str, visibility: &str) -> Self {
        let mut far = Self::outside(here, there, version, visibility).await;
        far.join().await;
        far
    }

    /// The room's id.
    pub(crate) fn id(&self) -> &RoomId {
        self.room.id()
    }

    /// Alice says something.
    pub(crate) async fn say(&mut self, body: &str) -> OwnedEventId {
        let content = object(&json!({ "msgtype": "m.text", "body": body }));
        self.sent(Outgoing::message(self.alice.clone(), "m.room.message", content)).await
    }

    /// Alice sets state.
    pub(crate) async fn set(&mut self, kind: &str, key: &str, content: Value) -> OwnedEventId {
        self.sent(Outgoing::state(self.alice.clone(), kind, key, object(&content))).await
    }

    async fn sent(&mut self, outgoing: Outgoing) -> OwnedEventId {
        self.last = self.room.send(outgoing).await.expect("sent").event_id;
        self.last.clone()
    }

    /// Bob joins.
    pub(crate) async fn join(&mut self) -> OwnedEventId {
        self.member("join").await
    }

    /// Bob joins, and the room begins on his server: with the state before the join, and nothing before that.
    pub(crate) async fn join_from_there(&mut self) -> OwnedEventId {
        let bob = self.bob.clone();
        let join = self.make(&bob, "m.room.member", Some(bob.as_str()), &json!({ "membership": "join" })).await;
        self.hand_in(join.clone()).await;
        self.begin_there(&join, join.event_id()).await;
        join.event_id().clone()
    }

    /// The room begins on Bob's server with an event, and with the state that was before another.
    pub(crate) async fn begin_there(&self, event: &Pdu, at: &EventId) {
        let rooms = &self.there.parts.rooms;
        let remote = rooms.remote().expect("federation");
        let state = self.there.client.state(&self.here.name, self.id(), at).await.expect("a state");
        let staging = rooms.stage(self.id(), self.room.version()).await.expect("staged");
        let bytes = |events: &[RawPdu]| events.iter().map(|event| event.get().as_bytes().to_vec()).collect();
        let of_state: Vec<Vec<u8>> = bytes(&state.pdus);
        let mut events: Vec<Vec<u8>> = bytes(&state.auth_chain);
        events.extend(of_state.iter().cloned());
        // An event comes before its auth events at worst; each round takes in at least one more.
        for _ in 0..events.len() {
            let received = staging.take_in(events.clone(), remote).await.expect("taken in");
            if received.iter().all(|received| matches!(received, Received::Stored(..))) {
                break;
            }
        }
        let id = |event: &Vec<u8>| Pdu::parse(self.room.version(), event).expect("a PDU").event_id().clone();
        let ids: Vec<_> = of_state.iter().map(id).collect();
        let root = staging.state(&ids).await.expect("a state");
        let json = event.json().as_bytes().to_vec();
        staging.begin(json, root, remote, storage::Batch::new()).await.expect("begun");
    }

    /// Bob's membership becomes this by himself.
    pub(crate) async fn member(&mut self, membership: &str) -> OwnedEventId {
        let bob = self.bob.clone();
        let pdu = self.make(&bob, "m.room.member", Some(bob.as_str()), &json!({ "membership": membership })).await;
        self.hand_in(pdu).await
    }

    /// Alice invites Bob, whose server knows of it by other ways.
    pub(crate) async fn invite(&mut self) {
        let (alice, bob) = (self.alice.clone(), self.bob.clone());
        let pdu = self.make(&alice, "m.room.member", Some(bob.as_str()), &json!({ "membership": "invite" })).await;
        self.hand_in(pdu).await;
    }

    /// An event that follows the last one, and is authorised by the room's state.
    pub(crate) async fn make(&self, sender: &UserId, kind: &str, state_key: Option<&str>, content: &Value) -> Pdu {
        let version = self.room.version();
        let raw = serde_json::value::to_raw_value(content).expect("JSON");
        let kind_of = kind.into();
        let wanted = auth_types_for(version, &kind_of, sender, state_key, &raw).expect("auth types");
        let mut auth = Vec::new();
        for (kind, key) in wanted {
            let alice = self.reader().await;
            let found = self.here.parts.reads.state_event(&alice, self.id(), kind, &key).await;
            auth.extend(
                found.ok().map(|event| OwnedEventId::try_from(event.event.header.event_id.as_str()).expect("an id")),
            );
        }
        self.build(sender, (kind, state_key, content), &auth)
    }

    /// An event that follows the last one, with these auth events.
    pub(crate) fn build(
        &self,
        sender: &UserId,
        (kind, state_key, content): (&str, Option<&str>, &Value),
        auth: &[OwnedEventId],
    ) -> Pdu {
        let input = BuildInput {
            version: self.room.version(),
            room_id: Some(self.id()),
            sender,
            event_type: kind,
            state_key,
            content: object(content),
            redacts: None,
            prev_events: std::slice::from_ref(&self.last),
            auth_events: auth,
            reference_hashes: None,
            depth: 100,
            origin_server_ts: UnixMillis(1_700_000_000_000),
            extra: Vec::new(),
        };
        let signer = if sender.server_name() == self.here.name { self.here } else { self.there };
        build(input, signer.keys.current(), &signer.name).expect("built")
    }

    /// The event is taken in and accepted.
    pub(crate) async fn hand_in(&mut self, pdu: Pdu) -> OwnedEventId {
        let remote = self.here.parts.rooms.remote().expect("federation");
        let received = self.room.receive(vec![Incoming::new(pdu.json())], remote).await.expect("received");
        let [Received::Stored(id, verdict)] = &received[..] else { panic!("{received:?}") };
        assert_eq!(*verdict, storage::schema::rooms::Verdict::Accepted);
        self.last = id.clone();
        id.clone()
    }

    /// Alice, who reads.
    pub(crate) async fn reader(&self) -> Reader {
        let user_nid = self.here.parts.users.nid(&self.alice).await.expect("readable").expect("registered");
        Reader { user_id: self.alice.clone(), user_nid, device_id: None }
    }
}
