//! Lists of devices: when whose has changed.
//!
//! A list is a user's devices that have keys, their names, and the cross-signing keys. Its newest change has one row, one line in the user's log and one
//! job; what was before is not kept. Other servers are told beside that, of devices without keys too ([`super::outgoing`]).

use std::sync::Arc;

use primitives::{Noted, StreamPosition, UserNid};
use ruma::OwnedServerName;
use storage::{
    Batch, Positioned, ReadError, View,
    schema::{
        jobs::{self, JobKind},
        keys::{self as tables, DeviceListRow},
        rooms::{UserLog, UserLogEntry},
    },
};
use tokio::sync::Notify;

use super::outgoing::{Change, publish};
use crate::wakeups::Wakeups;

/// Rows of the user's log that are about lists have indices from here on, so that they never meet others' of the same batch.
pub(super) const FIRST_LOG_INDEX: u16 = 0x4000;

/// The lists of all users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeviceLists {
    bell: Arc<Notify>,
    wakeups: Wakeups,
    marked: Arc<Noted<OwnedServerName>>,
}

impl DeviceLists {
    pub(crate) fn new(wakeups: Wakeups) -> Self {
        Self { bell: Arc::default(), wakeups, marked: Arc::default() }
    }

    /// Adds to a batch what a change of a user's list means. Once in a batch; conflicts if the list has changed since the view. After the commit come
    /// [`Self::ring`] and [`Self::wake`].
    pub(crate) async fn change(
        view: &View,
        batch: &mut Batch,
        user: UserNid,
        changes: &[Change<'_>],
    ) -> Result<(), ReadError> {
        let old = view.get::<tables::DeviceLists>(&(user,)).await?;
        batch.assert_unchanged::<tables::DeviceLists>(&(user,), old.as_ref());
        if let Some(old) = old {
            batch.delete::<UserLog>(&(user, old.position, old.value.log_index));
        }
        let log_index = FIRST_LOG_INDEX;
        batch.put::<tables::DeviceLists>(&(user,), &Positioned::pending(DeviceListRow { log_index }));
        let entry = UserLogEntry::DeviceList { user_id: None };
        batch.put::<UserLog>(&(user, StreamPosition::PENDING, log_index), &entry);
        jobs::begin(batch, JobKind::DEVICE_LIST, &(user,));
        publish(view, batch, user, changes).await
    }

    /// The same if the list shows what has changed; if not, only other servers are told.
    pub(crate) async fn change_if(
        is_listed: bool,
        view: &View,
        batch: &mut Batch,
        user: UserNid,
        changes: &[Change<'_>],
    ) -> Result<(), ReadError> {
        if is_listed {
            Self::change(view, batch, user, changes).await
        } else {
            publish(view, batch, user, changes).await
        }
    }

    /// When a user's list last changed.
    pub async fn last_change(view: &View, user: UserNid) -> Result<StreamPosition, ReadError> {
        let row = view.get::<tables::DeviceLists>(&(user,)).await?;
        Ok(row.map_or(StreamPosition::ZERO, |row| row.position))
    }

    /// Other servers that are to be told of lists since somebody looked. For whoever sends to them.
    pub fn marked(&self) -> &Noted<OwnedServerName> {
        &self.marked
    }

    /// Says that a job has been written.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Tells the user's other devices that something has been written.
    pub(crate) fn wake(&self, user: UserNid, position: StreamPosition) {
        self.wakeups.wake(user, position);
    }

    /// Waits until a change of a list has begun a job. One that nobody waited for is not missed.
    pub async fn job_begun(&self) {
        self.bell.notified().await;
    }
}
