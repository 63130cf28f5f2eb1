//! `sundial check-store`: what is stored against the invariants, while no server runs.

use anyhow::ensure;

use super::alone::alone;
use crate::config::Config;

/// Opens the store as the server would, checks it, and closes it. Prints what was counted and what is wrong.
///
/// # Errors
/// A data directory without a store, or that a server runs on; a store that can't be opened or read; one that has faults.
pub(super) async fn check(config: &Config, say: impl Fn(&str)) -> anyhow::Result<()> {
    let directory = crate::wiring::options::storage_directory(config);
    ensure!(directory.is_dir(), "there is no store in {}", config.data_dir.display());
    let checked = alone(config, async |stack| Ok(stack.verify().await?)).await?;
    say(&checked.to_string());
    ensure!(checked.is_whole(), "the store has faults");
    Ok(())
}
