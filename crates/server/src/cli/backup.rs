//! `sundial backup` and `sundial restore`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use primitives::{Random, SystemClock};

use crate::{
    admin::{self, Answer, Request},
    backup,
    config::Config,
    lock::DirectoryLock,
    wiring::{Accounts, options},
};

/// Takes a backup into a new directory: through the server if it runs, otherwise of its store. Answers with what to say.
///
/// # Errors
/// What the server says, or a store that can't be opened; a directory that is there already.
pub(super) async fn take(config: &Config, directory: &Path) -> anyhow::Result<String> {
    let directory = absolute(directory)?;
    let request = Request::Backup { directory: directory.clone() };
    match admin::ask(&config.data_dir, &request, |_| ()).await? {
        Some(Answer::BackedUp) => {}
        Some(Answer::Failed { error }) => bail!(error),
        Some(_) => bail!("the server gave the answer to another question"),
        None => alone(config, &directory).await?,
    }
    Ok(format!("the backup is in {}", directory.display()))
}

async fn alone(config: &Config, directory: &Path) -> anyhow::Result<()> {
    let store = options::storage_directory(config);
    ensure!(store.is_dir(), "there is no store in {}", config.data_dir.display());
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let clock = SystemClock::shared();
    let accounts = Accounts::open(config, &clock, &Random::os()).await?;
    let taken = backup::take(config, &accounts.storage, directory, &clock).await;
    accounts.close().await;
    taken
}

/// Puts a backup into a data directory without a store. Answers with what to say.
///
/// # Errors
/// See [`backup::restore`]; a data directory that a server runs on.
pub(super) async fn restore(config: &Config, directory: &Path) -> anyhow::Result<String> {
    let _lock = DirectoryLock::acquire(&config.data_dir)?;
    let (taken, discarded) = backup::restore(config, directory, &SystemClock::shared(), &Random::os()).await?;
    Ok(format!(
        "the backup that was taken at {} s since 1970 is restored; {} one-time keys are discarded, and clients upload new ones",
        taken.0 / 1_000,
        discarded.one_time_keys
    ))
}

/// The server's working directory is another than the administrator's.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}
