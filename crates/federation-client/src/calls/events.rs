//! Asking for events (server-server API, "Transactions", "Backfilling and retrieving missing events", "Retrieving events").
//!
//! What comes is the other server's word: bounded in size, read as far as the shape of the answer, and unchecked. A [`RawPdu`] can be anything
//! that is JSON; a bad one never spoils the others in the same answer.

use http::Method;
use ruma::{
    EventId, OwnedEventId, RoomId, ServerName,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    FederationClient, RemoteError,
    client::{Ask, encoded, malformed},
};

/// An event as another server sent it: any JSON, unchecked. `rooms::Room::receive` checks it.
pub type RawPdu = Box<RawValue>;

/// What `GET /state_ids` tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct StateIds {
    /// The state before the event.
    pub pdu_ids: Vec<OwnedEventId>,
    /// The auth chain of that state.
    pub auth_chain_ids: Vec<OwnedEventId>,
}

/// What `GET /state` tells.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct State {
    /// The state before the event.
    pub pdus: Vec<RawPdu>,
    /// The auth chain of that state.
    pub auth_chain: Vec<RawPdu>,
}

/// Which events are asked for with `POST /get_missing_events`.
#[derive(Clone, Copy, Debug)]
pub struct MissingEvents<'a> {
    /// Events that are known here: what comes before them is not wanted.
    pub earliest: &'a [OwnedEventId],
    /// Events whose previous events are wanted.
    pub latest: &'a [OwnedEventId],
    /// The most events that are wanted.
    pub limit: u32,
    /// Events of a lower depth are not wanted.
    pub min_depth: u64,
}

/// The body of a transaction, as far as it holds events.
#[derive(Deserialize)]
struct Pdus {
    pdus: Vec<RawPdu>,
}

impl FederationClient {
    /// `GET /_matrix/federation/v1/event/{eventId}`: one event, of whatever room the server says.
    ///
    /// # Errors
    /// See [`RemoteError`]; an answer with another number of events than one is malformed.
    pub async fn event(&self, server: &ServerName, event_id: &EventId) -> Result<RawPdu, RemoteError> {
        let path = format!("/_matrix/federation/v1/event/{}", encoded(event_id.as_str()));
        let mut pdus = read_pdus::<Pdus>(&self.ask(server, self.get(path)).await?)?.pdus;
        match (pdus.pop(), pdus.is_empty()) {
            (Some(pdu), true) => Ok(pdu),
            _ => Err(RemoteError::Malformed("there is not one event in it".to_owned())),
        }
    }

    /// `GET /_matrix/federation/v1/state_ids/{roomId}`: the ids of the state before an event, and of its auth chain.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn state_ids(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateIds, RemoteError> {
        read_pdus(&self.ask(server, self.get(at_event("state_ids", room_id, event_id))).await?)
    }

    /// `GET /_matrix/federation/v1/state/{roomId}`: the state before an event, and its auth chain.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn state(&self, server: &ServerName, room_id: &RoomId, event_id: &EventId) -> Result<State, RemoteError> {
        read_pdus(&self.ask(server, self.get(at_event("state", room_id, event_id))).await?)
    }

    /// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`: the auth chain of an event.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn event_auth(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<RawPdu>, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            auth_chain: Vec<RawPdu>,
        }
        let (room, event) = (encoded(room_id.as_str()), encoded(event_id.as_str()));
        let path = format!("/_matrix/federation/v1/event_auth/{room}/{event}");
        Ok(read_pdus::<Answer>(&self.ask(server, self.get(path)).await?)?.auth_chain)
    }

    /// `POST /_matrix/federation/v1/get_missing_events/{roomId}`: what lies between events. No more than the limit are given out, whatever the server
    /// sends.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn get_missing_events(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        missing: MissingEvents<'_>,
    ) -> Result<Vec<RawPdu>, RemoteError> {
        #[derive(Deserialize)]
        struct Answer {
            events: Vec<RawPdu>,
        }
        let path = format!("/_matrix/federation/v1/get_missing_events/{}", encoded(room_id.as_str()));
        let body = CanonicalJsonObject::from([
            ("earliest_events".to_owned(), ids(missing.earliest)),
            ("latest_events".to_owned(), ids(missing.latest)),
            ("limit".to_owned(), CanonicalJsonValue::Integer(missing.limit.into())),
            ("min_depth".to_owned(), CanonicalJsonValue::Integer(integer(missing.min_depth))),
        ]);
        let ask = Ask { method: Method::POST, body: Some(&body), ..self.get(path) };
        let mut events = read_pdus::<Answer>(&self.ask(server, ask).await?)?.events;
        events.truncate(usize::try_from(missing.limit).unwrap_or(usize::MAX));
        Ok(events)
    }

    /// `GET /_matrix/federation/v1/backfill/{roomId}`: events that come before these, and these. No more than the limit are given out, whatever the
    /// server sends.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn backfill(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: u32,
    ) -> Result<Vec<RawPdu>, RemoteError> {
        let mut path = format!("/_matrix/federation/v1/backfill/{}?limit={limit}", encoded(room_id.as_str()));
        for id in from {
            path.push_str("&v=");
            path.push_str(&encoded(id.as_str()));
        }
        let mut pdus = read_pdus::<Pdus>(&self.ask(server, self.get(path)).await?)?.pdus;
        pdus.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(pdus)
    }
}

pub(super) fn at_event(call: &str, room_id: &RoomId, event_id: &EventId) -> String {
    let (room, event) = (encoded(room_id.as_str()), encoded(event_id.as_str()));
    format!("/_matrix/federation/v1/{call}/{room}?event_id={event}")
}

fn ids(ids: &[OwnedEventId]) -> CanonicalJsonValue {
    CanonicalJsonValue::Array(ids.iter().map(|id| id.to_string().into()).collect())
}

/// The number, or the largest that canonical JSON knows.
fn integer(number: u64) -> ruma::Int {
    i64::try_from(number).ok().and_then(ruma::Int::new).unwrap_or(ruma::Int::MAX)
}

/// Reads an answer that holds events. How deep it is nested is no matter here: events are kept as text, and each is checked on its own.
pub(super) fn read_pdus<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, RemoteError> {
    serde_json::from_slice(body).map_err(malformed)
}

#[cfg(test)]
mod tests;
