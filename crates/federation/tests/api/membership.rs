//! Users come into rooms of other servers, and go out of them.

mod hostile;
mod invites;
mod joins;
mod knocks;
mod partial;
mod restricted;
mod third_party;

use rooms::{
    CreateRoom, Details, Preset, Reader, RemoteMembershipError,
    filter::{EventFormat, Filter},
    render::ClientEvent,
    sync::SyncRequest,
};
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, UserId};
use serde_json::{Value, value::RawValue};
use testkit::world::Server;

/// A room of a preset and a version.
pub(crate) async fn create(server: &Server, by: &UserId, version: &str, preset: Preset) -> OwnedRoomId {
    let request =
        CreateRoom { version: Some(version.to_owned()), preset: Some(preset), ..CreateRoom::new(by.to_owned()) };
    server.parts.rooms.create(request).await.expect("created")
}

/// Joins through these servers.
pub(crate) async fn join(
    server: &Server,
    user: &UserId,
    room: &RoomId,
    via: &[&Server],
) -> Result<(), RemoteMembershipError> {
    let via: Vec<OwnedServerName> = via.iter().map(|server| server.name.clone()).collect();
    server.parts.rooms.join(user, room, &via, Details::default()).await
}

/// What a local user reads of the room's state.
pub(crate) async fn state(server: &Server, reader: &UserId, room: &RoomId, kind: &str, key: &str) -> Option<Value> {
    let nid = server.parts.users.nid(reader).await.expect("readable").expect("an account");
    let reader = Reader { user_id: reader.to_owned(), user_nid: nid, device_id: None };
    let event = server.parts.reads.state_event(&reader, room, kind, key).await.ok()?;
    let event = serde_json::to_value(event).expect("JSON");
    event.get("content").cloned()
}

/// A user's membership, as a local user reads it.
pub(crate) async fn membership(server: &Server, reader: &UserId, room: &RoomId, of: &UserId) -> Option<String> {
    let content = state(server, reader, room, "m.room.member", of.as_str()).await?;
    content["membership"].as_str().map(ToOwned::to_owned)
}

/// The member event of a user, as servers exchange it.
pub(crate) async fn member_pdu(server: &Server, reader: &UserId, room: &RoomId, of: &UserId) -> Value {
    state_pdu(server, reader, room, "m.room.member", of.as_str()).await
}

/// An event of the state, as servers exchange it.
pub(crate) async fn state_pdu(server: &Server, reader: &UserId, room: &RoomId, kind: &str, key: &str) -> Value {
    let nid = server.parts.users.nid(reader).await.expect("readable").expect("an account");
    let reader = Reader { user_id: reader.to_owned(), user_nid: nid, device_id: None };
    let event = server.parts.reads.state_event(&reader, room, kind, key).await.expect("there");
    let event = ClientEvent { format: EventFormat::Federation, room_id: Some(room.to_owned()), ..event };
    let mut event = serde_json::to_value(event).expect("JSON");
    for field in ["event_id", "unsigned"] {
        event.as_object_mut().expect("an object").remove(field);
    }
    event
}

/// Hands an event in as if its server had sent it.
pub(crate) async fn hand_in(from: &Server, to: &Server, room: &RoomId, event: &Value) -> bool {
    let event = RawValue::from_string(event.to_string()).expect("JSON");
    to.parts.rooms.receive_from(&from.name, room, vec![event]).await.is_ok_and(|taken| taken[0].refused.is_none())
}

/// What a sync from the beginning tells a user of a room that they are not in.
pub(crate) async fn told(server: &Server, user: &UserId, kind: &str, room: &RoomId) -> Option<Value> {
    let nid = server.parts.users.nid(user).await.expect("readable").expect("an account");
    let reader = Reader { user_id: user.to_owned(), user_nid: nid, device_id: None };
    let filter = Filter::parse(r#"{ "room": { "include_leave": true } }"#).expect("a filter");
    let request = SyncRequest { filter, ..SyncRequest::default() };
    let response = server.parts.reads.sync(&reader, request).await.expect("a response");
    let response = serde_json::to_value(response).expect("JSON");
    response["rooms"][kind].get(room.as_str()).cloned()
}

/// What is stored agrees with itself.
pub(crate) async fn check(server: &Server) {
    let report = server.parts.rooms.verify().await.expect("readable");
    assert!(report.is_whole(), "{}: {report}", server.name);
}

/// The requests to a server whose path has this in it.
pub(crate) fn asked(world: &testkit::world::World, server: &Server, part: &str) -> usize {
    world.servers.asked().iter().filter(|(name, path)| *name == server.name && path.contains(part)).count()
}

/// Two servers with a user each.
pub(crate) async fn two(world: &testkit::world::World) -> (Server, OwnedUserId, Server, OwnedUserId) {
    let (a, b) = (world.server("a.test", 1).await, world.server("b.test", 2).await);
    let (alice, bob) = (a.user("alice").await, b.user("bob").await);
    (a, alice, b, bob)
}
