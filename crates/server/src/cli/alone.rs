//! The store itself, for a command that runs while no server does.

use primitives::{Random, SystemClock};

use crate::{config::Config, lock::DirectoryLock, wiring::Stack};

/// Opens the store as the server would, does something with it, and closes it whatever came of that.
///
/// # Errors
/// A data directory that a server runs on, a store that can't be opened, or what is done with it fails.
pub(super) async fn alone<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Stack) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let stack = Stack::open(config, &SystemClock::shared(), &Random::os()).await?;
    let done = work(&stack).await;
    stack.close().await;
    done
}
