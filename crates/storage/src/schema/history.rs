//! What is derived from relations, so that readers need not count: aggregations, threads; and who follows which thread.
//! Table numbers 44–46 and 68. The first three are written with the events, by the `rooms` crate only.

use primitives::{Rank, Rix, RoomNid, StreamPosition, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Positioned, Text};

use super::{tables, version_one};

tables! {
    /// How many events of each kind relate to an event, by keyed hash of its id. Without a row there is nothing to aggregate.
    RelationCounts = 44, "relation_count", (RoomNid, [u8; 16]) => RelationCountRow;
    /// How many events of a thread a user sent: by keyed hash of the root's id, then of the user's.
    ThreadSenders = 45, "thread_sender", (RoomNid, [u8; 16], [u8; 8]) => ThreadSenderRow;
    /// The threads of a room by the place of their newest event.
    Threads = 46, "thread", (RoomNid, Rank, Rix) => ThreadRow;
    /// The threads that a user follows or has ceased to follow (MSC4306), by the root's id.
    ThreadSubscriptions = 68, "thread_subscription", (UserNid, RoomNid, Text) => Positioned<ThreadSubscriptionRow>;
    /// The same in the order in which they changed last: each has one row here, at the position that stands beside its own.
    ThreadSubscriptionLog = 105, "thread_subscription_log", (UserNid, StreamPosition) => ThreadSubscriptionLogRow;
}

/// How many events relate to an event. Redacted ones don't count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationCountRow {
    /// Those that would replace it, whether they are valid or not.
    pub replacements: u32,
    /// Those that refer to it.
    pub references: u32,
    /// Those in the thread that it is the root of.
    pub threaded: u32,
    /// The place of the newest of these, in topological order.
    pub latest: Option<(Rank, Rix)>,
}

/// How many events of a thread a user sent. Redacted ones don't count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSenderRow {
    /// How many.
    pub count: u32,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRow {
    /// The id of its root. Nothing says that it is known here.
    pub root: String,
}

/// Whether a user follows a thread. The position beside it tells since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSubscriptionRow {
    /// Whether they do.
    pub subscribed: bool,
    /// Their client subscribed by itself, not on their wish.
    pub automatic: bool,
}

/// Which subscription has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSubscriptionLogRow {
    /// The room.
    pub room: RoomNid,
    /// The id of the thread's root.
    pub root: String,
}

version_one!(RelationCountRow, ThreadSenderRow, ThreadRow, ThreadSubscriptionRow, ThreadSubscriptionLogRow);
