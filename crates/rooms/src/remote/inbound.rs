//! Events that another server sends on its own account, in a transaction (server-server API, "Checks performed on receipt of a PDU").

use ruma::{OwnedEventId, RoomId, ServerName};
use serde_json::value::RawValue;

use crate::{Pdu, ReceiveError, Received, Room, RoomError, Rooms, remote::Remote};

/// What became of an event that another server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenIn {
    /// The event.
    pub event_id: OwnedEventId,
    /// Why nothing is made of it. `None`: it is stored with its verdict, be it rejected, or waits for what it needs and could not be had.
    pub refused: Option<String>,
}

impl TakenIn {
    fn of(event_id: OwnedEventId, received: Received) -> Self {
        let refused = match received {
            Received::Stored(..) | Received::Missing(..) => None,
            Received::Invalid(reason) => Some(reason),
        };
        Self { event_id, refused }
    }
}

impl Rooms {
    /// Takes in events of one room that a server sends. Answers for each that has an id in the room's version; of the others nothing can be said.
    ///
    /// # Errors
    /// The room is not known here, or can't be read or written.
    pub async fn receive_from(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        events: Vec<Box<RawValue>>,
    ) -> Result<Vec<TakenIn>, ReceiveError> {
        let Some(remote) = self.remote() else { return Err(ReceiveError::Unavailable) };
        // What comes while the room is being joined has its room afterwards.
        self.joined_or_not(room_id).await;
        let room = match self.room(room_id).await {
            Ok(room) if room.has_server(&self.options().server_name).await? => room,
            Ok(_) | Err(RoomError::Unknown) => return self.receive_outside(remote, origin, room_id, events).await,
            Err(RoomError::Storage(error)) => return Err(ReceiveError::Storage(error)),
        };
        let mut parsed = Vec::with_capacity(events.len());
        for event in events {
            match Pdu::parse(room.version(), event.get().as_bytes()) {
                Ok(pdu) => parsed.push(pdu),
                Err(error) => tracing::debug!(%origin, %room_id, %error, "something that is no event was dropped"),
            }
        }
        room.receive_from(remote, origin, parsed).await
    }

    /// Events of a room that this server is not in: nothing but the end of an invite or knock of its users can be meant for it.
    async fn receive_outside(
        &self,
        remote: &Remote,
        origin: &ServerName,
        room_id: &RoomId,
        events: Vec<Box<RawValue>>,
    ) -> Result<Vec<TakenIn>, ReceiveError> {
        let mut taken = Vec::new();
        for event in &events {
            if let Some(event_id) = self.end_out_of_band(origin, room_id, event, remote).await? {
                taken.push(TakenIn { event_id, refused: None });
            }
        }
        if taken.is_empty() { Err(ReceiveError::UnknownRoom) } else { Ok(taken) }
    }
}

impl Room {
    /// Events of a room that this server is in, as the caller has seen.
    async fn receive_from(
        &self,
        remote: &Remote,
        origin: &ServerName,
        events: Vec<Pdu>,
    ) -> Result<Vec<TakenIn>, ReceiveError> {
        if !self.allows_server(origin).await? {
            let refused = "the room's server ACL doesn't let the server take part";
            let refuse = |pdu: Pdu| TakenIn { event_id: pdu.event_id().clone(), refused: Some(refused.to_owned()) };
            return Ok(events.into_iter().map(refuse).collect());
        }
        let (mut taken, mut good) = (Vec::new(), Vec::new());
        for pdu in events {
            let event_id = pdu.event_id().clone();
            match self.prepare_parsed(pdu, false, remote).await {
                Ok(event) => good.push(event),
                Err(reason) => taken.push(TakenIn { event_id, refused: Some(reason) }),
            }
        }
        let ids: Vec<_> = good.iter().map(|event| event.pdu.event_id().clone()).collect();
        let received = self.receive_with_missing(remote, origin, good).await?;
        taken.extend(ids.into_iter().zip(received).map(|(id, received)| TakenIn::of(id, received)));
        Ok(taken)
    }
}
