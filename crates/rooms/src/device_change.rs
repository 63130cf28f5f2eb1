//! Rooms are told that the devices of a member changed.
//!
//! A room's log says it in one row a user: a newer change takes the place of the older one, which has nothing to say to anybody whom the newer one does
//! not tell. With a member who leaves the row goes too, and with the last user of this server all of a room's do: who comes, or comes back, is looked
//! at anew whatever the log says. So the log keeps at most one such row for each member, however often devices change.

use std::collections::BTreeSet;

use primitives::{NodeId, RoomNid, StreamPosition};
use ruma::UserId;
use storage::{
    Batch, CommitError, Direction, KeyRange, Positioned, ReadError, Text, View,
    schema::rooms::{LastDeviceChangeRow, LastDeviceChanges, RoomHeads, RoomLog, RoomLogEntry},
};

use crate::{local_members, registry::Rooms};

/// How often a batch is made anew because somebody else has told the same rooms.
const ATTEMPTS: u32 = 5;
/// The place of the row in its batch, which is of nothing else.
const INDEX: u16 = 0;

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

/// What rooms' logs say of their members' devices.
#[derive(Debug)]
pub struct DeviceChanges;

impl DeviceChanges {
    /// In the state `root` of a room a member has left, or an invite has ended: their devices are nobody's concern any more. Called by whoever follows the
    /// states of rooms, in its batch. Where the view has a newer state, they may have come back, and the row stays.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn left(
        view: &View,
        batch: &mut Batch,
        (room, root): (RoomNid, NodeId),
        user: &UserId,
    ) -> Result<(), ReadError> {
        if view.get::<RoomHeads>(&(room,)).await?.is_none_or(|head| head.root != root) {
            return Ok(());
        }
        let key = (room, Text::new(user.as_str()));
        if let Some(last) = view.get::<LastDeviceChanges>(&key).await? {
            prune(batch, &key, &last);
        }
        Ok(())
    }
}

/// Takes a user's row out of a room's log, if it still is the newest.
fn prune(batch: &mut Batch, key: &(RoomNid, Text), last: &Positioned<LastDeviceChangeRow>) {
    batch.assert_equals::<LastDeviceChanges>(key, last).delete::<LastDeviceChanges>(key);
    batch.delete::<RoomLog>(&(key.0, last.position, INDEX));
}

impl Rooms {
    /// Writes into the logs of some rooms, in one batch, that the list of a user's devices is not what it was, and wakes who is there. What was there of an
    /// earlier change goes. May be done again. That the user is in the rooms is the caller's to know.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tell_device_change(&self, user: &UserId, rooms: &[RoomNid]) -> Result<(), DeviceChangeError> {
        if rooms.is_empty() {
            return Ok(());
        }
        let mut position = Err(CommitError::Conflict(0));
        for _ in 0..ATTEMPTS {
            position = self.write_device_change(user, rooms).await?;
            if !matches!(position, Err(CommitError::Conflict(_))) {
                break;
            }
        }
        let (position, view) = (position?, self.context().storage.view());
        let mut members = BTreeSet::new();
        for room in rooms {
            members.extend(local_members::joined(&view, *room).await?);
        }
        for member in members {
            self.context().users.wakeups().wake(member, position);
        }
        Ok(())
    }

    async fn write_device_change(
        &self,
        user: &UserId,
        rooms: &[RoomNid],
    ) -> Result<Result<StreamPosition, CommitError>, ReadError> {
        let context = self.context();
        let keys: Vec<_> = rooms.iter().map(|room| (*room, Text::new(user.as_str()))).collect();
        let rows = context.storage.view().multi_get::<LastDeviceChanges>(&keys).await?;
        let (mut batch, mut writing) = (Batch::new(), Vec::with_capacity(rooms.len()));
        for (key, row) in keys.iter().zip(rows) {
            match &row {
                Some(last) => prune(&mut batch, key, last),
                None => drop(batch.assert_absent::<LastDeviceChanges>(key)),
            }
            let entry = RoomLogEntry::DeviceChange { user_id: user.to_string() };
            batch.put::<LastDeviceChanges>(key, &Positioned::pending(LastDeviceChangeRow {}));
            batch.put::<RoomLog>(&(key.0, StreamPosition::PENDING, INDEX), &entry);
            writing.push(context.activity.writing(key.0).of_lists(true).of_rows(vec![entry]));
        }
        let position = context.storage.commit(batch).await;
        if let Ok(position) = &position {
            for writing in writing {
                writing.committed(*position);
            }
        }
        Ok(position)
    }

    /// Takes up to `limit` rows about devices out of the log of a room that no user of this server is in. Whether there may be more. Who comes back later
    /// learns of what is in these rows by their own joining.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prune_device_changes(&self, room: RoomNid, limit: usize) -> Result<bool, DeviceChangeError> {
        let storage = &self.context().storage;
        let view = storage.view();
        if !local_members::joined(&view, room).await?.is_empty() {
            return Ok(false);
        }
        let page = view.scan::<LastDeviceChanges>(&KeyRange::prefix(&(room,)), limit, Direction::Forward).await?;
        if page.rows.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::new();
        for (key, last) in &page.rows {
            prune(&mut batch, key, last);
        }
        match storage.commit(batch).await {
            // Somebody was told meanwhile: once more.
            Err(CommitError::Conflict(_)) => Ok(true),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(page.rest.is_some()),
        }
    }
}
