//! What clients keep here of their keys, encrypted by themselves. Table numbers 80–84. Written by the `users` crate only.

use primitives::UserNid;
use serde::{Deserialize, Serialize};

use crate::Text;

use super::{tables, version_one};

tables! {
    /// A user's backups of room keys, by version. Whoever changes a backup's keys asserts its row.
    KeyBackups = 80, "key_backup", (UserNid, u64) => KeyBackupRow;
    /// Which versions a user's backups have had. Whoever adds or deletes a backup, or changes the newest one's keys, asserts it.
    KeyBackupVersions = 81, "key_backup_versions", (UserNid,) => KeyBackupVersionsRow;
    /// The keys in a backup, by room id and session id.
    KeyBackupSessions = 82, "key_backup_session", (UserNid, u64, Text, Text) => KeyBackupSessionRow;
    /// A user's dehydrated device (MSC3814). It has a row in [`super::users::Devices`] as any device, and everything else that devices have.
    DehydratedDevices = 83, "dehydrated_device", (UserNid,) => DehydratedDeviceRow;
}

/// A backup of room keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBackupRow {
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs, a JSON object.
    pub auth_data: String,
    /// Changes whenever its keys do.
    pub etag: u64,
    /// How many keys it has.
    pub count: u64,
}

/// Which versions a user's backups have had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBackupVersionsRow {
    /// The newest version there ever was: none is given twice.
    pub last: u64,
    /// How many backups there are.
    pub count: u32,
}

/// A key in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBackupSessionRow {
    /// The first message that it decrypts.
    pub first_message_index: u64,
    /// Over how many devices it came.
    pub forwarded_count: u64,
    /// The device that backed it up had verified the one it is from.
    pub is_verified: bool,
    /// The key, encrypted by the client: a JSON object.
    pub session_data: String,
}

/// A dehydrated device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DehydratedDeviceRow {
    /// Its id.
    pub device: String,
    /// What the client keeps of it, encrypted: a JSON object.
    pub data: String,
    /// Its keys are there. Until then it is shown to nobody.
    pub ready: bool,
}

version_one!(KeyBackupRow, KeyBackupVersionsRow, KeyBackupSessionRow, DehydratedDeviceRow);
