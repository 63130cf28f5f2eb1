//! Messages to the device that syncs.

use storage::{ReadError, View};
use users::StoreError;

use super::{SyncResponse, room::Asked};
use crate::{
    read::{Reader, Reads},
    tokens::SyncToken,
};

impl Reads {
    /// The client has come back with a token: what was sent with it is deleted before anything is answered, so that it never comes again.
    pub(super) async fn acknowledge_messages(
        &self,
        reader: &Reader,
        since: Option<SyncToken>,
    ) -> Result<(), ReadError> {
        let (Some(device), Some(since)) = (&reader.device_id, since) else { return Ok(()) };
        let deleted = self.0.users.to_device().acknowledge(reader.user_nid, device, since.to_device).await;
        deleted.map_err(|error| match error {
            StoreError::Read(error) => error,
            other => ReadError::Engine(other.to_string()),
        })
    }

    /// The next messages to the device. If more wait than one response takes, its token stops at the last of them.
    pub(super) async fn add_messages(
        &self,
        view: &View,
        asked: &Asked<'_>,
        response: &mut SyncResponse,
    ) -> Result<(), ReadError> {
        let Some(device) = &asked.reader.device_id else { return Ok(()) };
        let after = asked.request.since.map(|since| since.to_device).unwrap_or_default();
        let waiting = self.0.users.to_device().waiting(view, asked.reader.user_nid, device, after).await?;
        response.to_device.events = waiting.events;
        response.next_batch.to_device = waiting.more_after.unwrap_or(response.next_batch.to_device);
        Ok(())
    }
}
