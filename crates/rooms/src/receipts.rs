//! Receipts: how far users have read (specification, "Receipts"), and the marker of the user's own "read all up to here" ("Fully read
//! markers").
//!
//! A user has one receipt of each type and thread in a room. When it moves, its row is replaced and its row in the log of receipts moves to the
//! new position, so that as much is kept as there are receipts, and nothing of where they were.

mod order;
mod threads;
mod write;

use primitives::{RoomNid, StreamPosition};
use ruma::{OwnedEventId, UserId};
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::receipts::{PRIVATE, PUBLIC, ReceiptLog, ReceiptLogRow, Receipts},
};

use crate::{activity::Activity, read::RoomView};

pub use order::Place;
pub use write::{Marks, ReceiptError, RemoteReceipt};

/// Rows that one page of a scan reads: few enough to be read where the request is.
const PAGE: usize = 500;

/// The type of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReceiptType {
    /// `m.read`: everybody in the room sees it.
    Read,
    /// `m.read.private`: only its user sees it.
    ReadPrivate,
}

impl ReceiptType {
    /// The specification's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "m.read",
            Self::ReadPrivate => "m.read.private",
        }
    }

    fn key(self) -> u8 {
        match self {
            Self::Read => PUBLIC,
            Self::ReadPrivate => PRIVATE,
        }
    }

    fn of_key(key: u8) -> Self {
        if key == PRIVATE { Self::ReadPrivate } else { Self::Read }
    }
}

/// What a receipt is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Thread {
    /// The whole room, threads and all.
    #[default]
    Unthreaded,
    /// What is in no thread.
    Main,
    /// The thread of that root.
    Root(OwnedEventId),
}

impl Thread {
    /// A `thread_id`; `None` if it is neither `main` nor an event id.
    pub fn parse(thread_id: &str) -> Option<Self> {
        match thread_id {
            "main" => Some(Self::Main),
            root => OwnedEventId::try_from(root).ok().map(Self::Root),
        }
    }

    /// The `thread_id`, if there is one.
    pub fn thread_id(&self) -> Option<&str> {
        match self {
            Self::Unthreaded => None,
            Self::Main => Some("main"),
            Self::Root(root) => Some(root.as_str()),
        }
    }

    fn key(&self) -> Text {
        Text::new(self.thread_id().unwrap_or_default())
    }

    fn of_key(key: &str) -> Self {
        Self::parse(key).unwrap_or_default()
    }
}

/// A receipt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Whose.
    pub user_id: String,
    /// Of which type.
    pub receipt_type: ReceiptType,
    /// About what.
    pub thread: Thread,
    /// The event up to which is read. One of another server's user may be of an event that isn't known here.
    pub event_id: String,
    /// When, in milliseconds since the Unix epoch.
    pub ts: u64,
    /// The position at which it came.
    pub position: StreamPosition,
}

/// The receipts of a user in a room, of both types and all threads.
pub async fn of_user(view: &View, room: RoomNid, user_id: &UserId) -> Result<Vec<Receipt>, ReadError> {
    scan(view, KeyRange::prefix(&(room, Text::new(user_id.as_str())))).await
}

/// All receipts of a room.
pub(crate) async fn of_room(view: &View, room: RoomNid) -> Result<Vec<Receipt>, ReadError> {
    scan(view, KeyRange::prefix(&(room,))).await
}

async fn scan(view: &View, range: KeyRange) -> Result<Vec<Receipt>, ReadError> {
    let (mut receipts, mut rest) = (Vec::new(), Some(range));
    while let Some(range) = rest {
        let page = view.scan::<Receipts>(&range, PAGE, Direction::Forward).await?;
        receipts.extend(page.rows.into_iter().map(|((_, Text(user_id), kind, Text(thread)), row)| Receipt {
            user_id,
            receipt_type: ReceiptType::of_key(kind),
            thread: Thread::of_key(&thread),
            event_id: row.value.event_id,
            ts: row.value.ts,
            position: row.position,
        }));
        rest = page.rest;
    }
    Ok(receipts)
}

/// The receipts of a room that came after a position, in the order in which they did. Remembers how new they are, so that the next one who asks
/// need not look.
pub(crate) async fn since(room: &RoomView<'_>, since: StreamPosition) -> Result<Vec<Receipt>, ReadError> {
    let activity = &room.caches.activity;
    if activity.receipts_since(room.nid, since) == Activity::Quiet {
        return Ok(Vec::new());
    }
    let receipts = logged(room.view, room.nid, since).await?;
    let newest = receipts.iter().map(|receipt| receipt.position).fold(since, StreamPosition::max);
    activity.learn_receipts(room.nid, newest);
    Ok(receipts)
}

async fn logged(view: &View, room: RoomNid, since: StreamPosition) -> Result<Vec<Receipt>, ReadError> {
    let mut receipts = Vec::new();
    let mut rest = Some(KeyRange::between(&(room, since.next()), &(room, view.position().next())));
    while let Some(range) = rest {
        let page = view.scan::<ReceiptLog>(&range, PAGE, Direction::Forward).await?;
        let moved: Vec<ReceiptLogRow> = page.rows.into_iter().map(|(_, moved)| moved).collect();
        let key = |moved: &ReceiptLogRow| (room, Text::new(&*moved.user_id), moved.kind, Text::new(&*moved.thread));
        let rows = view.multi_get::<Receipts>(&moved.iter().map(key).collect::<Vec<_>>()).await?;
        receipts.extend(moved.into_iter().zip(rows).filter_map(|(moved, row)| {
            let row = row?;
            Some(Receipt {
                user_id: moved.user_id,
                receipt_type: ReceiptType::of_key(moved.kind),
                thread: Thread::of_key(&moved.thread),
                event_id: row.value.event_id,
                ts: row.value.ts,
                position: row.position,
            })
        }));
        rest = page.rest;
    }
    Ok(receipts)
}

/// The position at which the newest receipt of a room came.
pub(crate) async fn last_position(view: &View, room: RoomNid) -> Result<StreamPosition, ReadError> {
    let page = view.scan_keys::<ReceiptLog>(&KeyRange::prefix(&(room,)), 1, Direction::Backward).await?;
    Ok(page.keys.first().map_or(StreamPosition::ZERO, |(_, position, _)| *position))
}

#[cfg(test)]
mod tests;
