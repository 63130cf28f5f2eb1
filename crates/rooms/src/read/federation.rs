//! What another server may read of a room: events, states, auth chains and history (server-server API, "Retrieving events", "Backfilling and
//! retrieving missing events").
//!
//! Everything goes through a [`ServedRoom`], which only a server gets that is in the room, or was, and that the room's ACL lets take part; and
//! every look-up is by room and event, so that an event of another room looks like one that doesn't exist. What the server may not see is sent
//! without its content to one that is in the room, for it needs the event's place in the DAG, and not at all to one that has left.

mod auth_chain;
mod history;
mod pdus;
mod relationships;
mod state;
mod timestamp;

use primitives::RoomNid;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use storage::{
    ReadError, View,
    schema::rooms::{EventHeader, EventIds, EventKind, Verdict},
};

use super::{Reads, RoomView};
use crate::{
    event_key,
    load::corrupt,
    registry::{RoomError, Rooms},
    room::Room,
    visibility::{ServerEyes, ServerStanding},
};

pub use history::MissingEventsRequest;
pub use pdus::{EventSeries, ServedPdu};
pub use relationships::ServedRelationships;
pub use state::ServedState;

/// Why another server gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server is not in the room and was not, or the ACL forbids it, or there is no such room: all look the same (403, `M_FORBIDDEN`).
    #[error("your server is not in this room, or not allowed in it")]
    Forbidden,
    /// There is no such event in the room, or the server may not know that there is (404, `M_NOT_FOUND`).
    #[error("no such event in this room")]
    NotFound,
    /// The store could not be read (500).
    #[error(transparent)]
    Storage(#[from] ReadError),
}

/// A room as one server may read it, at one time.
pub struct ServedRoom {
    reads: Reads,
    view: View,
    room: RoomNid,
    server: OwnedServerName,
    standing: ServerStanding,
}

impl std::fmt::Debug for ServedRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServedRoom").field(&self.room).field(&self.server).finish()
    }
}

impl Rooms {
    /// A room for a server that asks about it.
    ///
    /// # Errors
    /// The server has no business there.
    pub async fn serve(&self, room_id: &RoomId, server: &ServerName) -> Result<ServedRoom, ServeError> {
        let room = match self.room(room_id).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Err(ServeError::Forbidden),
            Err(RoomError::Storage(error)) => return Err(error.into()),
        };
        self.serve_room(&room, server).await
    }

    /// An event for a server that asks for it by its id alone. Where the server has no business in the room, the event is as absent as one
    /// that doesn't exist.
    ///
    /// # Errors
    /// Not found.
    pub async fn serve_event(&self, event_id: &EventId, server: &ServerName) -> Result<ServedPdu, ServeError> {
        self.serve_room_of(event_id, server).await?.event(event_id).await
    }

    /// The room of an event, for a server that asks for the event by its id alone.
    async fn serve_room_of(&self, event_id: &EventId, server: &ServerName) -> Result<ServedRoom, ServeError> {
        let place = self.context().storage.view().get::<EventIds>(&(event_key(event_id),)).await?;
        let room = match self.room_by_number(place.ok_or(ServeError::NotFound)?.room).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Err(ServeError::NotFound),
            Err(RoomError::Storage(error)) => return Err(error.into()),
        };
        match self.serve_room(&room, server).await {
            Err(ServeError::Forbidden) => Err(ServeError::NotFound),
            served => served,
        }
    }

    async fn serve_room(&self, room: &Room, server: &ServerName) -> Result<ServedRoom, ServeError> {
        if !room.allows_server(server).await? {
            return Err(ServeError::Forbidden);
        }
        let (reads, server) = (self.reads().clone(), server.to_owned());
        let (view, standing) = (reads.0.storage.view(), ServerStanding::Outside);
        let mut served = ServedRoom { reads, view, room: room.nid(), server, standing };
        let view = served.room_view().await?;
        let head = view.head().await?.ok_or(ServeError::Forbidden)?;
        let standing = ServerEyes::new(&view, &served.server, standing).find_standing(head.root).await?;
        if standing == ServerStanding::Outside {
            return Err(ServeError::Forbidden);
        }
        served.standing = standing;
        Ok(served)
    }
}

impl ServedRoom {
    /// An event, if the server may have it.
    ///
    /// # Errors
    /// Not found: also an event that was rejected.
    pub async fn event(&self, event_id: &EventId) -> Result<ServedPdu, ServeError> {
        let room = self.room_view().await?;
        let rix = room.find_event(event_id).await?.ok_or(ServeError::NotFound)?;
        let shown = self.server_shower(&room).show(&[rix]).await?;
        shown.into_iter().next().ok_or(ServeError::NotFound)
    }

    async fn room_view(&self) -> Result<RoomView<'_>, ReadError> {
        let room = RoomView::by_number(&self.view, self.reads.caches(), self.room).await?;
        room.ok_or_else(|| corrupt::<storage::schema::rooms::Rooms>(format!("no room {}", self.room)))
    }

    fn server_shower<'a>(&'a self, room: &'a RoomView<'a>) -> pdus::ServerShower<'a> {
        pdus::ServerShower::new(room, ServerEyes::new(room, &self.server, self.standing), self.standing)
    }

    /// The header of an event around which the server may look: one that it sees, or any if it is in the room, since it needs those to follow
    /// the DAG. Rejected ones are in nobody's DAG.
    async fn anchor(&self, room: &RoomView<'_>, event_id: &EventId) -> Result<Anchor, ServeError> {
        let rix = room.find_event(event_id).await?.ok_or(ServeError::NotFound)?;
        let event = room.event(rix).await?.ok_or(ServeError::NotFound)?;
        let allowed = self.standing == ServerStanding::Joined
            || ServerEyes::new(room, &self.server, self.standing).sees(&event.header).await?;
        if !allowed || matches!(event.header.verdict, Verdict::Rejected(_)) {
            return Err(ServeError::NotFound);
        }
        Ok(Anchor { rix, header: event.header.clone() })
    }

    /// The same for several events, of which those that don't exist are left out.
    async fn anchors(&self, room: &RoomView<'_>, event_ids: &[OwnedEventId]) -> Result<Vec<Anchor>, ServeError> {
        let mut anchors = Vec::with_capacity(event_ids.len());
        for event_id in event_ids {
            match self.anchor(room, event_id).await {
                Ok(anchor) if anchor.header.kind != EventKind::Outlier => anchors.push(anchor),
                Ok(_) | Err(ServeError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(anchors)
    }
}

/// An event around which a server looks.
struct Anchor {
    rix: primitives::Rix,
    header: EventHeader,
}
