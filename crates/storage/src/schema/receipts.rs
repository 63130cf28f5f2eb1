//! Receipts. Table numbers 36 and 37. Written by the `rooms` crate only.

use primitives::{RoomNid, StreamPosition};
use serde::{Deserialize, Serialize};

use crate::{Positioned, Text};

use super::{tables, version_one};

tables! {
    /// How far a user has read: by user id, type of receipt ([`PUBLIC`] or [`PRIVATE`]) and thread: the id of its root, `main`, or nothing for a
    /// receipt that is of no thread. One row each, however often it moves.
    Receipts = 36, "receipt", (RoomNid, Text, u8, Text) => Positioned<ReceiptRow>;
    /// Which receipts of a room moved, in the order in which they did. One row for each of [`Receipts`]: the earlier one goes when it moves.
    ReceiptLog = 37, "receipt_log", (RoomNid, StreamPosition, u16) => ReceiptLogRow;
}

/// `m.read`, in a key.
pub const PUBLIC: u8 = 0;
/// `m.read.private`, in a key.
pub const PRIVATE: u8 = 1;

/// A receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRow {
    /// The event up to which is read. One that another server's user has read need not be known here.
    pub event_id: String,
    /// When, in milliseconds since the Unix epoch.
    pub ts: u64,
    /// The third part of its key in [`ReceiptLog`].
    pub log_index: u16,
}

/// Which receipt moved: the rest of its key in [`Receipts`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptLogRow {
    /// The user.
    pub user_id: String,
    /// The type of receipt, as in the key.
    pub kind: u8,
    /// The thread, as in the key.
    pub thread: String,
}

version_one!(ReceiptRow, ReceiptLogRow);
