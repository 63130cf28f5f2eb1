//! A room that closes to guests has them seen out (client-server API, "Guest access").
//!
//! That is work across events, and so a job: this crate only writes the job's row into the batch that closes the room, as data, and rings
//! [`crate::Signals`] after the commit. It is written from the changed state, so that a resolution or another server's event closes a room as an
//! own event does. Nobody is let in who would have to be seen out of a room that was closed before.

use primitives::Rix;
use storage::{
    ReadError,
    schema::jobs::{self, JobKind},
};

use super::SlotChange;
use crate::{change::Change, membership::lets_guests_in};

impl Change {
    /// Begins the job if the changed slots close the room.
    pub(super) async fn write_guests(&mut self, changes: &[SlotChange]) -> Result<(), ReadError> {
        let access =
            |change: &&SlotChange| change.key.event_type == "m.room.guest_access" && change.key.state_key.is_empty();
        let Some(change) = changes.iter().find(access) else { return Ok(()) };
        if self.welcomes(change.old).await? && !self.welcomes(change.new).await? {
            jobs::begin(&mut self.batch, JobKind::GUESTS, &(self.memory.info.nid,));
            self.begins_job = true;
        }
        Ok(())
    }

    async fn welcomes(&self, event: Option<Rix>) -> Result<bool, ReadError> {
        match event {
            Some(rix) => Ok(lets_guests_in(&self.event(rix).await?.pdu)),
            None => Ok(false),
        }
    }
}
