//! Which of two events is further on, as receipts count it.

use primitives::{Rank, Rix, StreamPosition};
use ruma::EventId;
use storage::{ReadError, schema::rooms::EventKind};

use crate::{read::RoomView, render::StoredEvent};

/// Where an event is in the order in which a user reads: that of arrival, with all that was fetched as history before what arrived live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Fetched as history: in topological order.
    Backfilled(Rank, Rix),
    /// Arrived live.
    Arrived(StreamPosition, Rix),
}

impl Place {
    /// The place of an event.
    pub fn of(event: &StoredEvent) -> Self {
        match event.header.kind {
            EventKind::Timeline => Self::Arrived(event.position, event.rix),
            EventKind::Backfilled | EventKind::Outlier => Self::Backfilled(event.header.rank, event.rix),
        }
    }

    /// The place of the event of that id, if it is one of the room's.
    pub(crate) async fn find(room: &RoomView<'_>, event_id: &str) -> Result<Option<Self>, ReadError> {
        let Ok(event_id) = <&EventId>::try_from(event_id) else { return Ok(None) };
        let Some(rix) = room.find_event(event_id).await? else { return Ok(None) };
        Ok(room.event(rix).await?.map(|event| Self::of(&event)))
    }
}
