//! How far a user has read a room, as their receipts say.

use std::collections::HashMap;

use primitives::StreamPosition;
use storage::ReadError;

use crate::{
    read::{Reader, RoomView},
    receipts::{self, Place, Receipt, Thread},
};

/// How far a user has read a room.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadTo(HashMap<Thread, Place>);

impl Thread {
    /// Whether a receipt that is about this says something of a thread; `None` is none.
    pub(super) fn concerns(&self, thread: Option<&str>) -> bool {
        match self {
            Self::Unthreaded => true,
            Self::Main => thread.is_none(),
            Self::Root(root) => thread == Some(root.as_str()),
        }
    }
}

impl ReadTo {
    /// What all receipts of a user in a room say together.
    pub(super) async fn load(room: &RoomView<'_>, reader: &Reader) -> Result<Self, ReadError> {
        let mut read_to = Self::default();
        for receipt in receipts::of_user(room.view, room.nid, &reader.user_id).await? {
            if let Some(place) = Place::find(room, &receipt.event_id).await? {
                read_to.advance(&receipt.thread, place);
            }
        }
        Ok(read_to)
    }

    /// Takes one more receipt into account. Of two about the same, that which is further on counts.
    pub(super) fn advance(&mut self, thread: &Thread, place: Place) {
        let known = self.0.entry(thread.clone()).or_insert(place);
        *known = place.max(*known);
    }

    /// Up to where everything is read, whatever its thread.
    pub(super) fn everything(&self) -> Option<Place> {
        self.0.get(&Thread::Unthreaded).copied()
    }

    /// Up to where a thread is read; `None` is none.
    pub(super) fn of(&self, thread: Option<&str>) -> Option<Place> {
        let thread = thread.map_or(Some(Thread::Main), Thread::parse);
        let own = thread.and_then(|thread| self.0.get(&thread).copied());
        own.max(self.everything())
    }

    /// Whether an event of a thread is read.
    pub(super) fn has_read(&self, thread: Option<&str>, place: Place) -> bool {
        self.of(thread).is_some_and(|read| place <= read)
    }
}

/// The receipts of a user that moved since a position: about what, and to where.
pub(super) async fn moved(
    room: &RoomView<'_>,
    reader: &Reader,
    since: StreamPosition,
) -> Result<Vec<(Thread, Place)>, ReadError> {
    let mut moved = Vec::new();
    for Receipt { user_id, thread, event_id, .. } in receipts::since(room, since).await? {
        if user_id == reader.user_id.as_str()
            && let Some(place) = Place::find(room, &event_id).await?
        {
            moved.push((thread, place));
        }
    }
    Ok(moved)
}
