//! Asking for aliases, published rooms, spaces and times (server-server API, "Querying for information", "Public Room Directory", "Spaces").

use http::Method;
use primitives::UnixMillis;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, canonical_json::CanonicalJsonObject,
};
use serde::Deserialize;

use crate::{
    FederationClient, RemoteError,
    client::{Ask, encoded, object, read},
};

/// The largest answer about an alias that is read. Servers list all that are in the room.
const ALIAS_MAX_BYTES: usize = 1 << 20;
/// The servers of such an answer that are kept.
const ALIAS_MAX_SERVERS: usize = 100;
/// The largest answer about a time that is read.
const TIMESTAMP_MAX_BYTES: usize = 64 << 10;

/// Where an alias leads, as its server says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AliasTarget {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers in the room, by which it can be joined; some of them.
    pub servers: Vec<OwnedServerName>,
}

/// The event closest to a time, as a server says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TimedEvent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// When it was sent, by its sender's clock.
    pub origin_server_ts: UnixMillis,
}

impl FederationClient {
    /// `GET /_matrix/federation/v1/query/directory`: where an alias leads, asked of its own server.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<AliasTarget, RemoteError> {
        let path = format!("/_matrix/federation/v1/query/directory?room_alias={}", encoded(alias.as_str()));
        let ask = Ask { answer_max_bytes: ALIAS_MAX_BYTES, ..self.get(path) };
        let mut target: AliasTarget = read(&self.ask(alias.server_name(), ask).await?)?;
        target.servers.truncate(ALIAS_MAX_SERVERS);
        Ok(target)
    }

    /// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`: the event closest to a time, at it or after, or at it or before.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn timestamp_to_event(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        ts: u64,
        forward: bool,
    ) -> Result<TimedEvent, RemoteError> {
        let (room, dir) = (encoded(room_id.as_str()), if forward { 'f' } else { 'b' });
        let path = format!("/_matrix/federation/v1/timestamp_to_event/{room}?ts={ts}&dir={dir}");
        read(&self.ask(server, Ask { answer_max_bytes: TIMESTAMP_MAX_BYTES, ..self.get(path) }).await?)
    }

    /// `POST /_matrix/federation/v1/publicRooms`: a page of a server's directory, as the server sends it.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn public_rooms(
        &self,
        server: &ServerName,
        request: &CanonicalJsonObject,
    ) -> Result<CanonicalJsonObject, RemoteError> {
        let path = "/_matrix/federation/v1/publicRooms".to_owned();
        object(&self.ask(server, Ask { method: Method::POST, body: Some(request), ..self.get(path) }).await?)
    }

    /// `GET /_matrix/federation/v1/hierarchy/{roomId}`: a space and its children, as the server sends them.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn hierarchy(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<CanonicalJsonObject, RemoteError> {
        let room = encoded(room_id.as_str());
        let path = format!("/_matrix/federation/v1/hierarchy/{room}?suggested_only={suggested_only}");
        object(&self.ask(server, self.get(path)).await?)
    }
}
