//! End-to-end encryption: the keys of devices, cross-signing keys, and the lists of devices (specification, "End-to-End Encryption").
//!
//! - A one-time key is claimed by a batch that deletes it and asserts that it was there: it is issued at most once, in the order of upload. Its id
//!   is remembered for a while, so that an upload that is sent again does not bring it back.
//! - Every change of a device's keys asserts the device's row, so that keys never outlive their device.
//! - A user's list of devices has one row. A change of it is one batch with the change of the keys, the line in the user's log and the job that tells
//!   the user's rooms.
//! - What other servers are told of a user's devices is a stream of changes (`keys/outgoing.rs`), whose stream ids are positions.
//! - What other servers tell of their users' devices is kept as long as a room is shared with them (`keys/remote.rs`).

mod claim;
mod cross_signing;
mod error;
mod lists;
mod outgoing;
mod query;
mod remote;
mod signatures;
mod signed;
mod upload;

use std::{collections::BTreeMap, sync::Arc};

use primitives::UserNid;
use ruma::{CanonicalJsonObject, DeviceId, OwnedServerName, OwnedUserId};
use storage::{Batch, ReadError, Text, View, schema::keys as tables};

use crate::{accounts::Accounts, ground::Ground, options::KeyLimits};

pub use claim::{Claims, Issued};
pub use cross_signing::{Authentication, CrossSigningUpload};
pub use error::KeysError;
pub use lists::DeviceLists;
pub(crate) use outgoing::{Change, publish};
pub use outgoing::{DevicesOfUser, Edu, MAX_EDUS};
pub use query::{Asker, Query, UserKeys};
pub use remote::{FetchError, Fetched, RemoteError, RemoteMembership, Unanswered, UpdateError, stale_lists};
pub use signatures::{Failures, SignatureFailure, SignatureUpload};
pub use upload::KeyUpload;

/// The algorithm that clients expect to find counted, even if there are none.
const USUAL_ALGORITHM: &str = "signed_curve25519";

/// The keys of all users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    ground: Ground,
    accounts: Arc<Accounts>,
    lists: DeviceLists,
    limits: KeyLimits,
    names_for_servers: bool,
    fetching: remote::Fetching,
}

/// What a device has left of keys that are given away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeysLeft {
    /// One-time keys, by algorithm.
    pub one_time: BTreeMap<String, u64>,
    /// Algorithms with a fallback key that nobody was given.
    pub unused_fallback: Vec<String>,
}

impl From<tables::DeviceKeyStateRow> for KeysLeft {
    fn from(row: tables::DeviceKeyStateRow) -> Self {
        let usual = (USUAL_ALGORITHM.to_owned(), 0);
        let counts = row.counts.into_iter().map(|(algorithm, count)| (algorithm, u64::from(count)));
        let unused = row.fallback.into_iter().filter(|key| !key.used);
        Self {
            one_time: std::iter::once(usual).chain(counts).collect(),
            unused_fallback: unused.map(|key| key.algorithm).collect(),
        }
    }
}

/// A request by server: this one's part, and those of others.
pub type ByServer<T> = (BTreeMap<OwnedUserId, T>, BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, T>>);

impl Keys {
    pub(crate) fn new(
        ground: Ground,
        accounts: Arc<Accounts>,
        lists: DeviceLists,
        limits: KeyLimits,
        names_for_servers: bool,
    ) -> Self {
        Self { ground, accounts, lists, limits, names_for_servers, fetching: remote::Fetching::default() }
    }

    /// What a device has left of keys that are given away, as a view shows it.
    pub async fn left(view: &View, user: UserNid, device: &DeviceId) -> Result<KeysLeft, ReadError> {
        let row = view.get::<tables::DeviceKeyStates>(&(user, Text::new(device.as_str()))).await?;
        Ok(row.unwrap_or_default().into())
    }

    /// Parts a request about users by the server that answers it.
    pub fn by_server<T>(&self, request: BTreeMap<OwnedUserId, T>) -> ByServer<T> {
        let (mut local, mut remote) = ByServer::default();
        for (user, part) in request {
            if self.accounts.is_local(&user) {
                local.insert(user, part);
            } else {
                remote.entry(user.server_name().to_owned()).or_default().insert(user, part);
            }
        }
        (local, remote)
    }

    /// Deletes the keys of a device with the device. Whether it had identity keys: then the list has changed.
    pub(crate) async fn delete_of_device(
        view: &View,
        batch: &mut Batch,
        user: UserNid,
        device: &DeviceId,
    ) -> Result<bool, ReadError> {
        let key = (user, Text::new(device.as_str()));
        let row = view.get::<tables::DeviceKeys>(&key).await?;
        batch.assert_unchanged::<tables::DeviceKeys>(&key, row.as_ref()).delete::<tables::DeviceKeys>(&key);
        delete_given_away(batch, &key);
        Ok(row.is_some())
    }

    /// Deletes the cross-signing keys of a user, and what they signed.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete::<tables::CrossSigning>(&(user,));
        batch.delete_prefix::<tables::KeySignatures>(&(user,));
    }
}

/// Deletes one-time keys and fallback keys of a device.
fn delete_given_away(batch: &mut Batch, key: &(UserNid, Text)) {
    batch.delete::<tables::DeviceKeyStates>(key);
    batch.delete_prefix::<tables::OneTimeKeys>(key);
    batch.delete_prefix::<tables::OneTimeKeyIds>(key);
}

/// A key that is stored.
fn stored(json: &str) -> CanonicalJsonObject {
    serde_json::from_str(json).expect("keys are stored as canonical JSON")
}

#[cfg(test)]
mod tests;
