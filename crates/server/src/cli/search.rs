//! `sundial search rebuild`: the search index made anew from the rooms, while no server runs.

use anyhow::{Context, ensure};
use primitives::{Random, SystemClock};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    lock::DirectoryLock,
    wiring::{Stack, options},
};

/// Drops the index and reads all rooms into a new one. Says how many events can be found.
///
/// # Errors
/// A data directory without a store, or that a server runs on; a store that can't be read; an index that can't be written; searching that is
/// switched off.
pub(super) async fn rebuild(config: &Config, say: impl Fn(&str)) -> anyhow::Result<()> {
    ensure!(options::storage_directory(config).is_dir(), "there is no store in {}", config.data_dir.display());
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    search::remove(&options::search_file(config));
    let stack = Stack::open(config, &SystemClock::shared(), &Random::os()).await?;
    let built = match stack.search() {
        Some(search) => search.catch_up_all(&CancellationToken::new()).await.map(|()| Some(search.indexed())),
        None => Ok(None),
    };
    stack.close().await;
    let indexed = built?.context("searching is switched off: search.enabled is false")?;
    say(&format!("{indexed} events can be found"));
    Ok(())
}
