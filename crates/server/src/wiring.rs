//! Puts the crates together: each gets its own options and the handles that it uses.

pub mod options;

use axum::Router;
use primitives::{Random, SharedClock};
use storage::Storage;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::config::Config;

/// Everything behind the listeners.
#[derive(Debug)]
pub struct Stack {
    storage: Storage,
}

impl Stack {
    /// Opens the store of the data directory, whose lock the caller holds, and what works on it.
    ///
    /// # Errors
    /// A store that can't be opened, or another server's.
    pub fn open(config: &Config, clock: &SharedClock, random: &Random) -> anyhow::Result<Self> {
        let storage = Storage::open(options::storage(config), clock, random)?;
        Ok(Self { storage })
    }

    /// What the listeners serve.
    pub fn router(&self) -> Router {
        Router::new()
    }

    /// Starts the work that goes on in the background, until told to stop.
    pub fn start(&self, _tasks: &TaskTracker, _stop: &CancellationToken) {}

    /// Waits until the store can't write any more. Why.
    pub async fn failed(&self) -> String {
        self.storage.failed().await
    }

    /// Puts the store in order for a quick start. Nothing can be written after that.
    pub async fn close(self) {
        if let Err(error) = self.storage.close().await {
            warn!(%error, "the store was not closed cleanly");
        }
    }
}
