//! Rooms are told that the devices of a member changed.

use std::collections::BTreeSet;

use primitives::{RoomNid, StreamPosition};
use ruma::UserId;
use storage::{
    Batch, CommitError, ReadError,
    schema::rooms::{RoomLog, RoomLogEntry},
};

use crate::{local_members, registry::Rooms};

/// Why rooms could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DeviceChangeError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Rooms {
    /// Writes into the logs of some rooms, in one batch, that the list of a user's devices is not what it was, and wakes who is there. May be done
    /// again. That the user is in the rooms is the caller's to know.
    pub async fn tell_device_change(&self, user: &UserId, rooms: &[RoomNid]) -> Result<(), DeviceChangeError> {
        if rooms.is_empty() {
            return Ok(());
        }
        let context = self.context();
        let (mut batch, mut writing) = (Batch::new(), Vec::with_capacity(rooms.len()));
        for room in rooms {
            let entry = RoomLogEntry::DeviceChange { user_id: user.to_string() };
            batch.put::<RoomLog>(&(*room, StreamPosition::PENDING, 0), &entry);
            writing.push(context.activity.writing(*room).of_lists(true).of_rows(vec![entry]));
        }
        let position = context.storage.commit(batch).await?;
        for writing in writing {
            writing.committed(position);
        }
        let (view, mut members) = (context.storage.view(), BTreeSet::new());
        for room in rooms {
            members.extend(local_members::joined(&view, *room).await?);
        }
        for member in members {
            context.users.wakeups().wake(member, position);
        }
        Ok(())
    }
}
