//! Whole lists are fetched from their servers and kept.

use std::{collections::BTreeMap, time::Duration};

use federation_client::{FederationClient, RemoteError, Unreachable, calls::devices::UserDevices};
use ruma::UserId;
use storage::{
    Batch, Positioned, ReadError, Text, View,
    schema::remote_devices::{RemoteDeviceRow, RemoteDevices, RemoteListRow, RemoteLists, StaleLists},
};

use super::{Deadline, RemoteMembership, answers, fetch_later, key_of, put_list, shares_a_room, tell_rooms};
use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    keys::Keys,
};

/// Fetches of a list that is told of again and again meanwhile.
const FETCHES: usize = 3;

/// Why a list was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The user's server did not answer, or what it answered is not that user's list.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for FetchError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

/// What came of the wish for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is current, by this fetch or somebody else's.
    Current,
    /// It is not kept: no room is shared with the user.
    Unshared,
    /// It changed each time while it was fetched.
    Restless,
}

/// A list that another server has told, checked.
struct List {
    row: RemoteListRow,
    devices: BTreeMap<String, RemoteDeviceRow>,
}

impl Keys {
    /// Makes the list of another server's user current, with one request for all who want it at the time.
    ///
    /// # Errors
    /// See [`FetchError`]. Nothing is kept then; [`Keys::miss_list`] has it tried again.
    pub async fn fetch_list(
        &self,
        client: &FederationClient,
        user: &UserId,
        timeout: Duration,
    ) -> Result<Fetched, FetchError> {
        let deadline = self.deadline(timeout);
        let left = deadline.left(self.ground.clock.monotonic())?;
        let lock = self.fetching.of(user);
        let _turn = tokio::select! {
            turn = lock.lock() => turn,
            () = self.ground.clock.sleep(left) => return Err(RemoteError::Unreachable(Unreachable::TimedOut).into()),
        };
        for _ in 0..FETCHES {
            let view = self.ground.storage.view();
            if !self.shares_a_room(&view, user).await? {
                return Ok(Fetched::Unshared);
            }
            let before = view.get::<RemoteLists>(&key_of(user)).await?;
            if before.as_ref().is_some_and(|row| row.value.current) {
                return Ok(Fetched::Current);
            }
            let left = deadline.left(self.ground.clock.monotonic())?;
            let answer = client.user_devices(user, left).await?;
            let list = self.checked(user, answer)?;
            if !self.shares_a_room(&self.ground.storage.view(), user).await? {
                return Ok(Fetched::Unshared);
            }
            if self.keep(user, before.as_ref(), list).await? {
                return Ok(Fetched::Current);
            }
        }
        Ok(Fetched::Restless)
    }

    pub(super) async fn shares_a_room(&self, view: &View, user: &UserId) -> Result<bool, ReadError> {
        shares_a_room(view, self.accounts.server_name(), user, None).await
    }

    /// Forgets the list of a user, unless a room is shared with them.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_unshared_list(&self, user: &UserId) -> Result<(), StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let row = view.get::<RemoteLists>(&key_of(user)).await?;
            if row.is_none() || self.shares_a_room(&view, user).await? {
                return Ok(());
            }
            let mut batch = Batch::new();
            batch.assert_unchanged::<RemoteLists>(&key_of(user), row.as_ref());
            RemoteMembership::forget(&mut batch, user);
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }

    pub(super) fn deadline(&self, timeout: Duration) -> Deadline {
        let timeout = timeout.min(self.limits.remote_timeout);
        Deadline(self.ground.clock.monotonic().saturating_add(timeout))
    }

    fn checked(&self, user: &UserId, answer: UserDevices) -> Result<List, RemoteError> {
        if answer.user_id != user.as_str() {
            return Err(RemoteError::Malformed("the devices are another user's".to_owned()));
        }
        if answer.devices.len() > self.limits.remote_devices_max {
            return Err(RemoteError::Malformed("the user has too many devices".to_owned()));
        }
        let max = self.limits.key_max_bytes;
        let devices = answer.devices.into_iter().filter_map(|device| {
            let (id, name) = (device.device_id, device.device_display_name);
            let row = answers::device(user, &id, device.keys?, name.as_deref(), max)?;
            Some((id, row))
        });
        let row = RemoteListRow {
            current: true,
            unanswered: false,
            known: vec![answer.stream_id],
            master: answers::cross_signing_key(user, "master", answer.master_key, max),
            self_signing: answers::cross_signing_key(user, "self_signing", answer.self_signing_key, max),
        };
        Ok(List { row, devices: devices.collect() })
    }

    /// Keeps a list that was fetched, unless something has been heard of it meanwhile. Who asked for it in vain is told of it.
    async fn keep(
        &self,
        user: &UserId,
        before: Option<&Positioned<RemoteListRow>>,
        list: List,
    ) -> Result<bool, StoreError> {
        let mut batch = Batch::new();
        put_list(&mut batch, user, before, list.row);
        batch.delete_prefix::<RemoteDevices>(&key_of(user));
        for (device, row) in list.devices {
            batch.put::<RemoteDevices>(&(Text::new(user.as_str()), Text::new(device)), &row);
        }
        batch.delete::<StaleLists>(&(Text::new(user.server_name().as_str()), Text::new(user.as_str())));
        let is_awaited = before.is_some_and(|row| row.value.unanswered);
        if is_awaited {
            tell_rooms(&mut batch, user);
        }
        let kept = matches!(outcome(self.ground.storage.commit(batch).await)?, Outcome::Done(_));
        if kept && is_awaited {
            self.lists.ring();
        }
        Ok(kept)
    }

    /// A list was wanted and could not be had: it is fetched in the background, and whoever shares a room with the user is told then.
    pub async fn miss_list(&self, user: &UserId) -> Result<(), StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let row = view.get::<RemoteLists>(&key_of(user)).await?;
            let known = row.as_ref().map(|row| (row.value.current, row.value.unanswered));
            // Somebody else has brought it, or it is missed already.
            if matches!(known, Some((true, _) | (_, true))) || !self.shares_a_room(&view, user).await? {
                return Ok(());
            }
            let mut batch = Batch::new();
            let old = row.as_ref().map(|row| row.value.clone()).unwrap_or_default();
            put_list(&mut batch, user, row.as_ref(), RemoteListRow { unanswered: true, ..old });
            fetch_later(&mut batch, user);
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                self.lists.ring();
                return Ok(());
            }
        }
        Err(StoreError::Contended)
    }

    /// A list is not fetched in the background any more: its server knows no such user, or no room is shared.
    pub async fn give_up_list(&self, user: &UserId) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete::<StaleLists>(&(Text::new(user.server_name().as_str()), Text::new(user.as_str())));
        self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
        Ok(())
    }
}

/// The list of a user as a view shows it, if it can be relied on.
pub(super) async fn current(view: &View, user: &UserId) -> Result<Option<RemoteListRow>, ReadError> {
    let row = view.get::<RemoteLists>(&key_of(user)).await?;
    Ok(row.map(|row| row.value).filter(|row| row.current))
}
