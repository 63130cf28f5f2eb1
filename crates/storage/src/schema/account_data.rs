//! What users keep with their account. Table numbers 61 and 62. Written by the `users` crate only.

use primitives::{RoomNid, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Positioned, Text};

use super::{tables, version_one};

tables! {
    /// A user's data: of a room, or with [`GLOBAL`] of none; by type. Its row in the user's log is there as long as it is, and is replaced with it.
    AccountData = 61, "account_data", (UserNid, RoomNid, Text) => Positioned<AccountDataRow>, large;
    /// What users say of their presence; all else of it is in memory.
    StatusMessages = 62, "status_message", (UserNid,) => PresenceRow;
}

/// Stands for the room of data that is of no room. Rooms are counted from 1.
pub const GLOBAL: RoomNid = RoomNid(0);

/// A piece of account data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataRow {
    /// The content: a JSON object. None once it has been deleted: the row then tells of the deletion.
    pub content: Option<String>,
    /// Its place in the user's log beside the position: the third part of that row's key.
    pub log_index: u16,
}

/// What a user says of their presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRow {
    /// The `status_msg`.
    pub status_msg: String,
}

version_one!(PresenceRow, AccountDataRow);
