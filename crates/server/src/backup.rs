//! Backups: a consistent copy of what a server can't make anew, taken while it runs, and its way back.
//!
//! A backup is a directory with the store, the signing keys and, written last, `backup.json`, which says that it is whole. The search index is not in it:
//! it is made anew from the rooms.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use anyhow::{Context, bail, ensure};
use primitives::{Random, SharedClock, UnixMillis};
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use storage::Storage;
use users::restored::{Discarded, discard_what_may_be_stale};

use crate::{config::Config, signing_key, wiring::options};

/// The store in a backup.
const STORE: &str = "store";
/// What says that a backup is whole.
const LABEL: &str = "backup.json";
/// A store that is being restored, beside where it is to be.
const RESTORING: &str = "store.restoring";
/// The form of backups that this version writes and reads.
const FORMAT: u32 = 1;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Label {
    format: u32,
    server_name: OwnedServerName,
    /// When it was begun.
    taken: UnixMillis,
    /// The version of Sundial that took it.
    version: String,
}

/// Takes a backup of a store in use into a directory that is made for it. The signing keys are read from the data directory.
///
/// # Errors
/// A directory that is there already, or that can't be written. What was written of it is left, without a label.
pub async fn take(config: &Config, storage: &Storage, directory: &Path, clock: &SharedClock) -> anyhow::Result<()> {
    let shown = directory.display();
    let taken = clock.now();
    DirBuilder::new().mode(0o700).create(directory).with_context(|| format!("{shown} can't be made"))?;
    storage.copy_to(directory.join(STORE)).await?;
    signing_key::copy(&config.data_dir, directory)?;
    sync_all(directory).with_context(|| format!("{shown} can't be synced"))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let label = Label { format: FORMAT, server_name: config.server_name.clone(), taken, version };
    let text = serde_json::to_vec_pretty(&label)?;
    write_synced(&directory.join(LABEL), &text).with_context(|| format!("{shown} can't be labelled"))
}

/// Puts a backup into a data directory without a store, whose lock the caller holds. The backup stays as it is. Sync tokens become void, and what may
/// have happened since the backup was taken is provided for ([`users::restored`]).
///
/// # Errors
/// A backup that is not whole or another server's, a data directory that has a store or another signing key; files that can't be read or written.
/// The data directory has no store then, and restoring can be tried again.
pub async fn restore(
    config: &Config,
    directory: &Path,
    clock: &SharedClock,
    random: &Random,
) -> anyhow::Result<(UnixMillis, Discarded)> {
    let label = label(directory)?;
    ensure!(label.format == FORMAT, "the backup is of the form {}, which this version doesn't know", label.format);
    ensure!(
        label.server_name == config.server_name,
        "the backup is of {}, the configuration of {}",
        label.server_name,
        config.server_name
    );
    let store = options::storage_directory(config);
    ensure!(!store.exists(), "there is a store already: move {} away first", store.display());
    signing_key::copy(directory, &config.data_dir)?;
    let restoring = config.data_dir.join(RESTORING);
    if restoring.exists() {
        std::fs::remove_dir_all(&restoring).with_context(|| restoring.display().to_string())?;
    }
    copy_directory(&directory.join(STORE), &restoring)?;
    let at = storage::Place::Directory(restoring.clone());
    let options = storage::Options { place: at, restored: true, ..options::storage(config) };
    let opened = Storage::open(options, clock, random)?;
    let discarded = discard_what_may_be_stale(&opened).await?;
    opened.close().await?;
    drop(opened);
    sync_all(&restoring)?;
    // Only now is there a store: a server never starts on half of one.
    std::fs::rename(&restoring, &store)?;
    File::open(&config.data_dir)?.sync_all()?;
    let search = options::search_file(config);
    if let Some(index) = search.parent().filter(|index| index.exists()) {
        // It follows another history; the next start makes it anew.
        std::fs::remove_dir_all(index).with_context(|| index.display().to_string())?;
    }
    Ok((label.taken, discarded))
}

fn label(directory: &Path) -> anyhow::Result<Label> {
    let path = directory.join(LABEL);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("{} is no backup, or one that was not finished", directory.display())
        }
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::write(path, bytes)?;
    File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Makes a directory durable with all that is in it.
fn sync_all(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(directory)?.sync_all()
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    DirBuilder::new().mode(0o700).create(to).with_context(|| to.display().to_string())?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_directory(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).with_context(|| format!("{} can't be copied", source.display()))?;
        }
    }
    Ok(())
}
