//! What a store that was restored from a backup must not go on with: what may have happened between the backup and the loss of what came after it.
//!
//! - One-time keys may have been claimed: all are discarded, and clients upload new ones. Their ids stay as those of claimed keys, so that none comes back.
//! - Fallback keys serve meanwhile, and count as used: clients replace them.
//! - Other servers may know devices that are not here, or lack some that are: the stream of each user's devices goes on after a gap, so that they fetch the
//!   list.
//! - Lists of other servers' users may have changed unheard: none is kept.

use primitives::StreamPosition;
use storage::{
    Batch, Direction, KeyRange, Positioned, Storage, Table,
    schema::{
        jobs::{self, EVERY_ROOM, JobKind},
        keys::{DeviceKeyStateRow, DeviceKeyStates, OneTimeKeyIdRow, OneTimeKeyIds, OneTimeKeys},
        remote_devices::{DeviceStreamRow, DeviceStreams, RemoteDevices, RemoteLists, StaleLists},
    },
};

use crate::error::StoreError;

/// Rows that one page of a scan reads, and one batch writes.
const PAGE: usize = 500;

/// What was discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// One-time keys.
    pub one_time_keys: u64,
    /// Lists of other servers' users.
    pub remote_lists: u64,
}

/// Discards it. May be done again; the caller has the store to itself.
///
/// # Errors
/// The store failed. What was not discarded yet must be before the store is used.
pub async fn discard_what_may_be_stale(storage: &Storage) -> Result<Discarded, StoreError> {
    let mut discarded = Discarded { one_time_keys: discard_one_time_keys(storage).await?, ..Discarded::default() };
    let mut rest = Some(KeyRange::prefix(&()));
    while let Some(range) = rest {
        let page = storage.view().scan::<DeviceStreams>(&range, PAGE, Direction::Forward).await?;
        let mut batch = Batch::new();
        for ((user,), old) in page.rows {
            // What is marked after this is behind the gap.
            let (marked, forgotten) = (StreamPosition(1), old.position);
            let row = DeviceStreamRow { marked, of_device: true, forgotten, ..DeviceStreamRow::default() };
            batch.put::<DeviceStreams>(&(user,), &Positioned::pending(row));
            jobs::begin(&mut batch, JobKind::DEVICE_MARKS, &(user, EVERY_ROOM, storage::Text::new("")));
        }
        commit(storage, batch).await?;
        rest = page.rest;
    }
    discarded.remote_lists = delete_all::<RemoteLists>(storage).await?;
    delete_all::<RemoteDevices>(storage).await?;
    delete_all::<StaleLists>(storage).await?;
    Ok(discarded)
}

async fn discard_one_time_keys(storage: &Storage) -> Result<u64, StoreError> {
    let (mut discarded, mut rest) = (0, Some(KeyRange::prefix(&())));
    while let Some(range) = rest {
        let page = storage.view().scan::<DeviceKeyStates>(&range, PAGE, Direction::Forward).await?;
        for (device, state) in page.rows {
            let view = storage.view();
            let (mut batch, mut claimed) = (Batch::new(), state.claimed);
            let mut ids = Some(KeyRange::prefix(&device));
            while let Some(range) = ids {
                let page = view.scan::<OneTimeKeyIds>(&range, PAGE, Direction::Forward).await?;
                for (id, row) in page.rows.into_iter().filter(|(_, row)| !row.value.claimed) {
                    let value = OneTimeKeyIdRow { claimed: true, ..row.value };
                    batch.put::<OneTimeKeyIds>(&id, &Positioned { position: row.position, value });
                    claimed += 1;
                }
                ids = page.rest;
            }
            discarded += u64::from(claimed - state.claimed);
            let mut fallback = state.fallback;
            for key in &mut fallback {
                key.used = true;
            }
            batch.delete_prefix::<OneTimeKeys>(&device);
            batch.put::<DeviceKeyStates>(&device, &DeviceKeyStateRow { counts: Vec::new(), claimed, fallback });
            commit(storage, batch).await?;
        }
        rest = page.rest;
    }
    Ok(discarded)
}

async fn delete_all<T: Table>(storage: &Storage) -> Result<u64, StoreError> {
    let (mut deleted, mut rest) = (0, Some(KeyRange::prefix(&())));
    while let Some(range) = rest {
        let page = storage.view().scan_keys::<T>(&range, PAGE, Direction::Forward).await?;
        let mut batch = Batch::new();
        for key in &page.keys {
            batch.delete::<T>(key);
            deleted += 1;
        }
        commit(storage, batch).await?;
        rest = page.rest;
    }
    Ok(deleted)
}

async fn commit(storage: &Storage, batch: Batch) -> Result<(), StoreError> {
    if !batch.is_empty() {
        storage.commit(batch).await.map_err(StoreError::Commit)?;
    }
    Ok(())
}
