//! Devices, keys and messages to devices across servers.

mod cache;
mod messages;
mod questions;
mod updates;

use std::time::Duration;

use federation_client::FakeServers;
use primitives::{RoomNid, StreamPosition};
use rooms::CreateRoom;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId, canonical_json::to_canonical_value};
use serde_json::{Value, json};
use storage::{
    Batch, Direction, KeyRange, Text,
    schema::{
        jobs::RemoteMembers,
        rooms::{RoomLog, RoomLogEntry},
    },
};
use testkit::world::{Server, World};
use users::{
    Authority, NewAccount, NewSession, Requester,
    keys::{KeyUpload, Query, UserKeys},
};

/// Longer than any request here takes.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A public key in unpadded base64.
fn public(seed: u8) -> String {
    primitives::ServerKey::new("x", [seed; 32]).expect("a key").public_base64()
}

/// The identity keys of a device.
fn identity(user: &UserId, device: &str, seed: u8) -> CanonicalJsonObject {
    let keys = json!({
        "user_id": user, "device_id": device, "algorithms": ["m.olm"], "signatures": {},
        "keys": { format!("ed25519:{device}"): public(seed) },
    });
    to_canonical_value(keys).expect("canonical").as_object().expect("an object").clone()
}

/// A user of a server who is logged in on a device, made if they are not there.
async fn on_device(server: &Server, name: &str, device: &str) -> Requester {
    let session = || NewSession { device_id: Some(device.into()), ..NewSession::default() };
    let account = NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some(name.to_owned()),
        password: Some("secret".to_owned()),
        display_name: None,
        session: Some(session()),
    };
    let users = &server.parts.users;
    if let Ok(registered) = users.register(account).await {
        let token = registered.session.expect("a session").tokens.access_token;
        return users.authenticate(&token).await.expect("let in");
    }
    let identifier = users::Identifier::User(name.to_owned());
    let login = users::Login { identifier: &identifier, password: "secret", session: session(), address: None };
    let token = users.login(login).await.expect("logs in").session.tokens.access_token;
    users.authenticate(&token).await.expect("let in")
}

/// The same with identity keys.
async fn with_keys(server: &Server, name: &str, device: &str, seed: u8) -> Requester {
    let who = on_device(server, name, device).await;
    let keys = KeyUpload { device_keys: Some(identity(&who.user_id, device, seed)), ..KeyUpload::default() };
    server.parts.users.keys().upload(&who, keys).await.expect("uploaded");
    who
}

/// One-time keys of these names, which need no signature.
fn one_time(names: std::ops::Range<u8>) -> KeyUpload {
    let keys = names.map(|n| (format!("curve25519:{n:03}"), CanonicalJsonValue::String(public(n + 100))));
    KeyUpload { one_time_keys: keys.collect(), ..KeyUpload::default() }
}

/// A room of a local user that another server's user counts as a member of.
async fn share(server: &Server, local: &UserId, remote: &UserId) -> RoomNid {
    let id = server.parts.rooms.create(CreateRoom::new(local.to_owned())).await.expect("creates");
    let room = server.parts.rooms.room(&id).await.expect("known").nid();
    server.parts.projections.catch_up(room).await.expect("caught up");
    let mut batch = Batch::new();
    batch.put::<RemoteMembers>(&(Text::new(remote.as_str()), room), &());
    server.parts.storage.commit(batch).await.expect("commits");
    room
}

/// What a user learns of another server's users, and the servers that didn't answer.
async fn ask(server: &Server, who: &Requester, users: &[&UserId]) -> (UserKeys, Vec<String>) {
    let wanted: Query = users.iter().map(|user| ((*user).to_owned(), Vec::new())).collect();
    let keys = server.parts.users.keys();
    let (local, remote) = keys.by_server(wanted);
    assert!(local.is_empty());
    let (found, failures) = keys.query_remote(&server.client, who, remote, TIMEOUT).await.expect("answered");
    (found, failures.into_keys().map(|server| server.to_string()).collect())
}

/// The ids of a user's devices, as another user learns them.
async fn devices(server: &Server, who: &Requester, user: &UserId) -> Vec<String> {
    let (found, failures) = ask(server, who, &[user]).await;
    assert!(failures.is_empty(), "{failures:?}");
    found.device_keys.get(user).map(|devices| devices.keys().cloned().collect()).unwrap_or_default()
}

/// What a server was asked about devices and keys so far.
fn asked(servers: &FakeServers) -> Vec<String> {
    let asked = servers.asked().into_iter().map(|(_, what)| what);
    let about_devices = asked.filter_map(|what| Some(what.split_once("/_matrix/federation/v1/user/")?.1.to_owned()));
    about_devices.collect()
}

/// Tells a server what has changed in the list of another's user since a position, as EDUs do.
async fn tell(from: &Server, to: &Server, user: &UserId, since: StreamPosition) {
    for edu in from.parts.users.keys().edus_since(user, since, 100).await.expect("read") {
        let content: Value = serde_json::from_str(edu.content.get()).expect("JSON");
        let keys = to.parts.users.keys();
        match edu.edu_type {
            "m.device_list_update" => keys.hear_device_list_update(&from.name, content).await.expect("taken"),
            "m.signing_key_update" => keys.hear_signing_key_update(&from.name, content).await.expect("taken"),
            other => panic!("an EDU of type {other}"),
        }
    }
}

/// How far a user's stream is.
async fn position(server: &Server, who: &Requester) -> StreamPosition {
    server.parts.users.keys().stream_of(who.user_nid).await.expect("read").expect("a stream").0
}

/// How often a room's log tells of a user's devices.
async fn told(server: &Server, room: RoomNid, user: &UserId) -> usize {
    let range = KeyRange::prefix(&(room,));
    let page = server.parts.storage.view().scan::<RoomLog>(&range, 500, Direction::Forward).await.expect("read");
    let of_user = |entry: &RoomLogEntry| matches!(entry, RoomLogEntry::DeviceChange { user_id } if user_id == user);
    page.rows.iter().filter(|(_, entry)| of_user(entry)).count()
}

/// Does the jobs that are due.
async fn work(server: &Server) {
    server.parts.jobs.run_due().await.expect("readable");
}

/// Two servers, alice here and bob there, each on a device with keys, who share a room as far as this server knows.
struct Pair {
    world: World,
    here: Server,
    there: Server,
    alice: Requester,
    bob: Requester,
    room: RoomNid,
}

impl Pair {
    async fn new() -> Self {
        let world = World::new();
        let (here, there) = (world.server("a.test", 1).await, world.server("b.test", 2).await);
        let (alice, bob) = (with_keys(&here, "alice", "A", 1).await, with_keys(&there, "bob", "B", 2).await);
        let room = share(&here, &alice.user_id, &bob.user_id).await;
        Self { world, here, there, alice, bob, room }
    }

    async fn devices(&self) -> Vec<String> {
        devices(&self.here, &self.alice, &self.bob.user_id).await
    }
}

fn user(id: &str) -> OwnedUserId {
    id.try_into().expect("a user id")
}
