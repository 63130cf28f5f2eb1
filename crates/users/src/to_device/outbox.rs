//! What waits for other servers, for whoever sends to them.

use primitives::{Noted, StreamPosition};
use ruma::{OwnedServerName, ServerName};
use storage::{Batch, Direction, KeyRange, ReadError, Text, schema::to_device::ToDeviceOutbox};

use super::{Messages, ToDevice};

/// What waits for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEdu {
    /// Where it stands.
    pub position: StreamPosition,
    /// The content of the `m.direct_to_device` EDU, JSON.
    pub content: String,
}

impl ToDevice {
    /// Servers whose outbox has got something since somebody looked. For one follower.
    pub fn outboxes(&self) -> &Noted<OwnedServerName> {
        &self.outboxes
    }

    /// Servers whose outbox has something.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn outboxes_in_use(&self) -> Result<Vec<OwnedServerName>, ReadError> {
        let view = self.ground.storage.view();
        let (mut servers, mut rest) = (Vec::new(), KeyRange::prefix(&()));
        while let Some((name, _)) = view.scan_keys::<ToDeviceOutbox>(&rest, 1, Direction::Forward).await?.keys.pop() {
            rest = KeyRange::from(&(), &(name.clone(), StreamPosition::PENDING));
            servers.extend(OwnedServerName::try_from(name.0));
        }
        Ok(servers)
    }

    /// The oldest that waits for a server: at most `limit`, and after `max_bytes` of content no more.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn outbox(
        &self,
        server: &ServerName,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<OutboxEdu>, ReadError> {
        let view = self.ground.storage.view();
        let (mut waiting, mut bytes, mut rest) =
            (Vec::new(), 0, Some(KeyRange::prefix(&(Text::new(server.as_str()),))));
        while let Some(range) = rest.filter(|_| waiting.len() < limit && bytes < max_bytes) {
            // One at a time: each may be large.
            let page = view.scan::<ToDeviceOutbox>(&range, 1, Direction::Forward).await?;
            for ((_, position), row) in page.rows {
                bytes += row.content.len();
                waiting.push(OutboxEdu { position, content: row.content });
            }
            rest = page.rest;
        }
        Ok(waiting)
    }

    /// Takes out of a server's outbox what it has acknowledged.
    pub fn acknowledged_in(batch: &mut Batch, server: &ServerName, positions: &[StreamPosition]) {
        for position in positions {
            batch.delete::<ToDeviceOutbox>(&(Text::new(server.as_str()), *position));
        }
    }

    pub(super) fn note_outboxes(&self, messages: &Messages) {
        for user_id in messages.keys().filter(|user_id| !self.accounts.is_local(user_id)) {
            self.outboxes.note(user_id.server_name().to_owned());
        }
    }
}
