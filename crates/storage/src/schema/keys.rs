//! End-to-end encryption: the public keys of devices and users. Table numbers 70–76. Written by the `users` crate only.

use primitives::{StreamPosition, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Positioned, Text};

use super::{tables, version_one};

tables! {
    /// The identity keys of a device.
    DeviceKeys = 70, "device_keys", (UserNid, Text) => DeviceKeysRow;
    /// The one-time keys of a device that nobody has claimed: by algorithm, in the order of upload, those of one upload by a number.
    OneTimeKeys = 71, "one_time_key", (UserNid, Text, Text, StreamPosition, u16) => OneTimeKeyRow;
    /// The ids of one-time keys, by device and algorithm: of those that are there, and for a while of those that were claimed.
    OneTimeKeyIds = 72, "one_time_key_id", (UserNid, Text, Text, Text) => Positioned<OneTimeKeyIdRow>;
    /// How many one-time keys a device has, and its fallback keys. Whoever adds or takes a key asserts it.
    DeviceKeyStates = 73, "device_key_state", (UserNid, Text) => DeviceKeyStateRow;
    /// A user's cross-signing keys.
    CrossSigning = 74, "cross_signing", (UserNid,) => CrossSigningRow;
    /// What a user has signed of another user's master key, by the other's user id.
    KeySignatures = 75, "key_signature", (UserNid, Text) => Positioned<KeySignaturesRow>;
    /// When the list of a user's devices and cross-signing keys last changed, at the row's position.
    DeviceLists = 76, "device_list", (UserNid,) => Positioned<DeviceListRow>;
}

/// The identity keys of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceKeysRow {
    /// The object as uploaded, with the signatures that the user has added since: canonical JSON without `unsigned`.
    pub json: String,
}

/// A one-time key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeKeyRow {
    /// Its id, without the algorithm.
    pub key_id: String,
    /// The key as uploaded, canonical JSON.
    pub json: String,
}

/// A one-time key that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeKeyIdRow {
    /// SHA-256 of the key without its signatures: the same key may be uploaded again.
    pub digest: [u8; 32],
    /// It is gone: uploaded again, it is not kept a second time.
    pub claimed: bool,
}

/// What a device has of keys that are given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceKeyStateRow {
    /// Algorithms and how many one-time keys of each are there; sorted, none of them zero.
    pub counts: Vec<(String, u32)>,
    /// How many claimed keys are remembered in [`OneTimeKeyIds`].
    pub claimed: u32,
    /// Fallback keys, one for an algorithm; sorted by that.
    pub fallback: Vec<FallbackKey>,
}

/// A key that is given away when there are no one-time keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackKey {
    /// The algorithm.
    pub algorithm: String,
    /// Its id, without the algorithm.
    pub key_id: String,
    /// The key as uploaded, canonical JSON.
    pub json: String,
    /// It was given away.
    pub used: bool,
}

/// A user's cross-signing keys, canonical JSON each, with the user's own signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrossSigningRow {
    /// The master key.
    pub master: Option<String>,
    /// The key that signs the user's devices.
    pub self_signing: Option<String>,
    /// The key that signs other users' master keys.
    pub user_signing: Option<String>,
}

/// What a user has signed of another user's master key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySignaturesRow {
    /// The public key that was signed, base64.
    pub master_key: String,
    /// Ids of signing keys and their signatures.
    pub signatures: Vec<(String, String)>,
    /// The third part of its key in [`super::rooms::UserLog`].
    pub log_index: u16,
}

/// Where in the user's log the newest change of their list is: its position is the row's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceListRow {
    /// The third part of its key in [`super::rooms::UserLog`].
    pub log_index: u16,
}

version_one!(
    DeviceKeysRow,
    OneTimeKeyRow,
    OneTimeKeyIdRow,
    DeviceKeyStateRow,
    CrossSigningRow,
    KeySignaturesRow,
    DeviceListRow
);
