//! What has to outlive the process, and is not written with an acknowledgement: what servers are owed that can't be reached, how far the logs have
//! been followed, and pauses.

use std::collections::BTreeSet;

use federation_client::{Destination, Destinations, Pause};
use primitives::UnixMillis;
use ruma::{OwnedServerName, ServerName};
use storage::Batch;

use super::{Dispatcher, OutboundError, meters};

/// Rows that one batch writes.
const ROWS: usize = 1_000;

impl Dispatcher {
    /// Takes note of pauses, and once a second writes what is in memory only.
    pub(super) async fn keep_if_due(&self) -> Result<(), OutboundError> {
        let now = self.0.federation.clock.monotonic();
        let changed = self.0.federation.client.pauses_changed().take();
        if !changed.is_empty() {
            let mut queues = self.0.queues.lock();
            for server in &changed {
                if self.pause(server).is_none_or(|pause| pause.left.is_zero()) {
                    queues.revive(server);
                }
            }
            queues.keep_soon(now);
            drop(queues);
            self.0.pauses.lock().extend(changed);
        }
        let keeps = self.0.queues.lock().keeps_now(now);
        if keeps && let Err(error) = self.keep().await {
            self.0.queues.lock().keep_soon(now);
            return Err(error);
        }
        Ok(())
    }

    /// Writes what is in memory only.
    pub(super) async fn keep(&self) -> Result<(), OutboundError> {
        let _alone = self.0.keeping.lock().await;
        self.keep_pauses().await?;
        meters::levels(self.0.queues.lock().levels());
        let client = &self.0.federation.client;
        self.0.queues.lock().cover(|server| client.pause(server).is_some());
        loop {
            let (debts, floor) = {
                let mut queues = self.0.queues.lock();
                let debts = queues.take_debts(ROWS);
                (debts, queues.floor())
            };
            if debts.is_empty() && floor.is_none() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (server, owed) in &debts {
                Destinations::owe(&mut batch, server, *owed);
            }
            if let Some(floor) = floor {
                Destinations::put_followed(&mut batch, self.0.federation.keys().server_name(), floor);
            }
            if let Err(error) = self.0.destinations.commit(batch).await {
                self.0.queues.lock().put_back(debts);
                return Err(error.into());
            }
            if let Some(floor) = floor {
                self.0.queues.lock().kept(floor);
            }
            if debts.len() < ROWS {
                return Ok(());
            }
        }
    }

    /// Writes the pauses that have begun, grown or ended, of servers that this one sends to.
    async fn keep_pauses(&self) -> Result<(), OutboundError> {
        let changed: Vec<_> = std::mem::take(&mut *self.0.pauses.lock()).into_iter().collect();
        for some in changed.chunks(ROWS) {
            if let Err(error) = self.keep_some_pauses(some).await {
                self.0.pauses.lock().extend(changed);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn keep_some_pauses(&self, servers: &[OwnedServerName]) -> Result<(), OutboundError> {
        let stored = self.0.destinations.read(servers).await?;
        let mut batch = Batch::new();
        for (server, stored) in servers.iter().zip(stored) {
            // Of a server that nothing waits for only the end of a pause is of interest: strangers leave no rows.
            let acknowledged = self.0.queues.lock().acknowledged_by(server);
            let known = self.destination(server, acknowledged.unwrap_or_default().max(stored.acknowledged));
            if known != stored && (acknowledged.is_some() || stored != Destination::default()) {
                Destinations::put(&mut batch, server, known);
            }
        }
        if !batch.is_empty() {
            self.0.destinations.commit(batch).await?;
        }
        Ok(())
    }

    /// A server's row as it should be now.
    pub(super) fn destination(&self, server: &ServerName, acknowledged: primitives::StreamPosition) -> Destination {
        let now = self.0.federation.clock.now();
        match self.pause(server) {
            Some(Pause { failures, left }) => Destination { acknowledged, failures, retry_at: now.plus(left) },
            None => Destination { acknowledged, failures: 0, retry_at: UnixMillis(0) },
        }
    }

    pub(super) fn pause(&self, server: &ServerName) -> Option<Pause> {
        self.0.federation.client.pause(server)
    }
}

/// Servers whose pause is to be written.
pub(super) type Pauses = parking_lot::Mutex<BTreeSet<OwnedServerName>>;
