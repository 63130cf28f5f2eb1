//! Asking for the whole state of a room that was joined with a part of it (MSC3706): of any size, and with as much time as a join has.

use bytes::Bytes;
use ruma::{EventId, RoomId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::events::{StateIds, at_event};
use crate::{
    FederationClient, RemoteError,
    client::{Ask, malformed},
};

/// The state of a room as another server gives it. Kept as it came; [`Self::read`] finds the events in it without a copy.
#[derive(Clone, Debug)]
pub struct WholeState(Bytes);

/// The parts of a [`WholeState`].
#[derive(Debug, Deserialize)]
pub struct WholeStateParts<'a> {
    /// The state before the event.
    #[serde(borrow)]
    pub pdus: Vec<&'a RawValue>,
    /// The auth chain of that state.
    #[serde(borrow)]
    pub auth_chain: Vec<&'a RawValue>,
}

impl WholeState {
    /// The events, as text.
    ///
    /// # Errors
    /// What came is no such answer.
    pub fn read(&self) -> Result<WholeStateParts<'_>, RemoteError> {
        serde_json::from_slice(&self.0).map_err(malformed)
    }
}

impl FederationClient {
    /// `GET /_matrix/federation/v1/state_ids/{roomId}`, with the bounds of a join.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn whole_state_ids(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateIds, RemoteError> {
        let ask = self.with_bounds_of_join(self.get(at_event("state_ids", room_id, event_id)));
        serde_json::from_slice(&self.ask(server, ask).await?).map_err(malformed)
    }

    /// `GET /_matrix/federation/v1/state/{roomId}`, with the bounds of a join.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub async fn whole_state(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<WholeState, RemoteError> {
        let ask = self.with_bounds_of_join(self.get(at_event("state", room_id, event_id)));
        Ok(WholeState(self.ask(server, ask).await?))
    }

    /// A request whose answer holds the state of a room.
    pub(crate) fn with_bounds_of_join<'a>(&self, ask: Ask<'a>) -> Ask<'a> {
        let (answer_max_bytes, timeout) = (self.options().state_answer_max_bytes, self.options().join_timeout);
        Ask { answer_max_bytes, timeout, ..ask }
    }
}
