//! Queues are bounded by number and age: the oldest messages go first.

use parking_lot::Mutex;
use primitives::{StreamPosition, UnixMillis, UserNid};
use storage::{
    Batch, Direction, KeyRange, Text,
    schema::to_device::{ToDevice as Rows, ToDeviceOutbox},
};

use super::ToDevice;
use crate::error::StoreError;

/// Messages that are counted or dropped at a time.
const PAGE: usize = 1_000;
/// Queues of which one sweep looks at the oldest message.
const QUEUES_A_SWEEP: usize = 500;

/// Where the sweep over all queues goes on: after this device's.
#[derive(Debug, Default)]
pub(super) struct Sweep(Mutex<Option<(UserNid, Text)>>);

fn count_dropped(messages: usize, reason: &'static str) {
    let messages = u64::try_from(messages).unwrap_or(u64::MAX);
    metrics::counter!("sundial_to_device_dropped_total", "reason" => reason).increment(messages);
}

impl ToDevice {
    /// Drops the oldest messages of a queue that has more than it may.
    pub(super) async fn drop_surplus(&self, user: UserNid, device: &str) -> Result<(), StoreError> {
        let view = self.ground.storage.view();
        let mut positions = Vec::new();
        let mut rest = Some(KeyRange::prefix(&(user, Text::new(device))));
        while let Some(range) = rest {
            let page = view.scan_keys::<Rows>(&range, PAGE, Direction::Forward).await?;
            positions.extend(page.keys.into_iter().map(|(.., position)| position));
            rest = page.rest;
        }
        let surplus = positions.len().saturating_sub(self.sizes.queue_max_messages);
        count_dropped(surplus, "full");
        self.delete(user, device, &positions[..surplus]).await
    }

    /// Deletes messages of a queue.
    pub(super) async fn delete(
        &self,
        user: UserNid,
        device: &str,
        positions: &[StreamPosition],
    ) -> Result<(), StoreError> {
        for positions in positions.chunks(PAGE) {
            let mut batch = Batch::new();
            for position in positions {
                batch.delete::<Rows>(&(user, Text::new(device), *position));
            }
            self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
        }
        Ok(())
    }

    /// The time before which messages are too old.
    fn oldest(&self) -> UnixMillis {
        let age = u64::try_from(self.sizes.queue_max_age.as_millis()).unwrap_or(u64::MAX);
        UnixMillis(self.ground.clock.now().0.saturating_sub(age))
    }

    /// Drops what is too old in the next queues, a bounded number of them; the sweep after the last begins anew.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_outbox().await?;
        let oldest = self.oldest();
        for _ in 0..QUEUES_A_SWEEP {
            let after = self.sweep.0.lock().clone();
            let range = match &after {
                Some((user, device)) => KeyRange::from(&(), &(*user, device.clone(), StreamPosition::PENDING)),
                None => KeyRange::prefix(&()),
            };
            let page = self.ground.storage.view().scan::<Rows>(&range, 1, Direction::Forward).await?;
            let Some(((user, device, _), row)) = page.rows.into_iter().next() else {
                *self.sweep.0.lock() = None;
                return Ok(());
            };
            if row.received < oldest {
                self.drop_older(user, &device, oldest).await?;
            }
            *self.sweep.0.lock() = Some((user, device));
        }
        Ok(())
    }

    async fn drop_older(&self, user: UserNid, device: &Text, oldest: UnixMillis) -> Result<(), StoreError> {
        let mut rest = Some(KeyRange::prefix(&(user, device.clone())));
        while let Some(range) = rest {
            let page = self.ground.storage.view().scan::<Rows>(&range, PAGE, Direction::Forward).await?;
            let old = page.rows.iter().take_while(|(_, row)| row.received < oldest);
            let old: Vec<_> = old.map(|((.., position), _)| *position).collect();
            count_dropped(old.len(), "old");
            self.delete(user, &device.0, &old).await?;
            rest = page.rest.filter(|_| old.len() == page.rows.len());
        }
        Ok(())
    }

    /// Drops what has waited too long for other servers: a bounded number of rows, the oldest of the first servers.
    async fn sweep_outbox(&self) -> Result<(), StoreError> {
        let (oldest, mut rest) = (self.oldest(), Some(KeyRange::prefix(&())));
        let mut batch = Batch::new();
        for _ in 0..QUEUES_A_SWEEP {
            let Some(range) = rest else { break };
            let page = self.ground.storage.view().scan::<ToDeviceOutbox>(&range, 1, Direction::Forward).await?;
            let Some(((server, position), row)) = page.rows.into_iter().next() else { break };
            let next = if row.received < oldest {
                batch.delete::<ToDeviceOutbox>(&(server.clone(), position));
                (server, position.next())
            } else {
                (server, StreamPosition::PENDING)
            };
            rest = Some(KeyRange::from(&(), &next));
        }
        if batch.is_empty() {
            return Ok(());
        }
        count_dropped(batch.ops().len(), "old");
        self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
        Ok(())
    }
}
