//! News of the devices of users who may be in a room whose state is partial: kept until it is known whether they are.

use ruma::{ServerName, UserId};
use storage::{
    Batch, Direction, KeyRange, Text,
    schema::rooms::{Membership, PartialNote, PartialNotes},
};

use super::Period;
use crate::{DeviceChangeError, current::Current, registry::Rooms, room::Room};

/// Users that are noted of one room at most.
const MAX_USERS: usize = 10_000;

impl Rooms {
    /// A server has told that the devices of a user of its have changed. Where that server is in a room whose state is partial, and the user may be, that is kept
    /// for when the state is whole (MSC3902).
    ///
    /// # Errors
    /// The store could not be read or written.
    pub async fn note_device_change(&self, origin: &ServerName, user: &UserId) -> Result<(), DeviceChangeError> {
        if user.server_name() != origin {
            return Ok(());
        }
        for nid in self.resyncs().under_way() {
            if let Ok(room) = self.room_by_number(nid).await {
                room.note_device_change(origin, user).await?;
            }
        }
        Ok(())
    }
}

impl Room {
    async fn note_device_change(&self, origin: &ServerName, user: &UserId) -> Result<(), DeviceChangeError> {
        let Some(current) = Current::read(self.context(), self.info()).await? else { return Ok(()) };
        let view = current.view();
        if Period::open(view, self.nid()).await?.is_none()
            || !current.has_server(origin).await?
            || current.membership(user).await? == Some(Membership::Join)
        {
            return Ok(());
        }
        let range = KeyRange::prefix(&(self.nid(), PartialNote::DeviceChange));
        let noted = view.scan_keys::<PartialNotes>(&range, MAX_USERS, Direction::Forward).await?.keys.len();
        if noted >= MAX_USERS {
            tracing::debug!(room_id = %self.id(), "too many users' devices have changed while a state is partial");
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.put::<PartialNotes>(&(self.nid(), PartialNote::DeviceChange, Text::new(user.as_str())), &());
        self.context().storage.commit(batch).await?;
        Ok(())
    }
}
