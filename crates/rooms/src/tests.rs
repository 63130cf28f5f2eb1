//! The writing half as a whole, on a store in memory.

mod alias;
mod beside;
mod crash;
mod create;
mod extremities;
mod forks;
mod members;
mod reading;
mod receiving;
mod send;
mod staging;
mod upgrade;
mod verify;

use std::sync::Arc;

use primitives::{ManualClock, Random, ServerKey, SharedClock, UnixMillis};
use ruma::{
    EventId, OwnedUserId, UserId,
    canonical_json::{CanonicalJsonObject, to_canonical_value},
    server_name,
};
use serde_json::Value;
use storage::{Batch, Storage, Text, schema::meta::Counters};
use users::{Authority, NewAccount, Users};

use crate::{CreateRoom, Options, Outgoing, Pdu, Rider, Room, Rooms, SendError, Sent, current::Current};

/// A server of two local users, `@alice:x` and `@bob:x`, whose rates are not limited.
pub(crate) struct Server {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<ManualClock>,
}

pub(crate) const ALICE: &str = "@alice:x";
pub(crate) const BOB: &str = "@bob:x";

pub(crate) fn user(id: &str) -> OwnedUserId {
    OwnedUserId::try_from(id).expect("a user id")
}

pub(crate) fn object(value: &Value) -> CanonicalJsonObject {
    to_canonical_value(value).expect("canonical").as_object().expect("an object").clone()
}

impl Server {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let shared: SharedClock = clock.clone();
        Self::on(Storage::memory(&shared, &Random::seeded(1)), clock).await
    }

    /// A server on a store that may have been used before.
    pub(crate) async fn on(storage: Storage, clock: Arc<ManualClock>) -> Self {
        Self::with(storage, clock, Options::new(server_name!("x").to_owned())).await
    }

    async fn with(storage: Storage, clock: Arc<ManualClock>, rooms: Options) -> Self {
        let shared: SharedClock = clock.clone();
        let random = Random::seeded(2);
        let mut options = users::Options::new(server_name!("x").to_owned());
        options.limits.enforce = false;
        options.allow_guests = true;
        let users = Users::open(storage.clone(), shared.clone(), random.clone(), options).await.expect("opens");
        for name in ["alice", "bob", "carol"] {
            register(&users, name).await;
        }
        let key = Arc::new(ServerKey::new("1", [7; 32]).expect("valid"));
        let rooms = Rooms::open(storage.clone(), users.clone(), shared, random, key, None, rooms);
        Self { rooms, users, storage, clock }
    }

    pub(crate) async fn nid(&self, id: &str) -> primitives::UserNid {
        self.users.nid(uid(id)).await.expect("readable").expect("registered")
    }

    /// A public room of that version, made by Alice.
    pub(crate) async fn public(&self, version: &str) -> Room {
        let request = CreateRoom { version: Some(version.to_owned()), published: true, ..CreateRoom::new(user(ALICE)) };
        let id = self.rooms.create(request).await.expect("creates");
        self.rooms.room(&id).await.expect("known")
    }
}

async fn register(users: &Users, name: &str) {
    let account = NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some(name.to_owned()),
        password: None,
        display_name: None,
        session: None,
    };
    // A server on a used store has its users already.
    drop(users.register(account).await);
}

/// A rider that leaves a mark, once only.
pub(crate) fn marker(name: &'static str) -> Rider {
    Rider::new(move |_: &EventId| {
        let key = (Text::new(name),);
        let mut batch = Batch::new();
        batch.assert_absent::<Counters>(&key).put::<Counters>(&key, &1);
        batch
    })
}

/// Sends a message and answers with what became of it.
pub(crate) async fn say(room: &Room, sender: &str, body: &str) -> Result<Sent, SendError> {
    let content = object(&serde_json::json!({ "msgtype": "m.text", "body": body }));
    room.send(Outgoing::message(user(sender), "m.room.message", content)).await
}

/// Sets state and answers with what became of it.
pub(crate) async fn set(room: &Room, sender: &str, kind: &str, key: &str, content: Value) -> Result<Sent, SendError> {
    room.send(Outgoing::state(user(sender), kind, key, object(&content))).await
}

/// The current state event of a type and state key.
pub(crate) async fn current(room: &Room, kind: &str, key: &str) -> Option<Pdu> {
    let state = Current::read(room.context(), room.info()).await.expect("readable").expect("there");
    state.event(kind, key).await.expect("readable")
}

pub(crate) fn uid(id: &str) -> &UserId {
    id.try_into().expect("a user id")
}
