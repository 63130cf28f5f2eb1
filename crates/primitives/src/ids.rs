//! Numbers with types: the dense ids that storage keys are made of.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A room's number on this server: dense, never reused.
    RoomNid(u32)
}
number! {
    /// A local user's number on this server: dense, never reused.
    UserNid(u32)
}
number! {
    /// An event's number in its room. Counts up as events are stored; every event's auth events have lower numbers. 0 is no event.
    Rix(u32)
}
number! {
    /// The place of a (type, state key) pair in a room's state tree: dense, never reused.
    Slot(u32)
}
number! {
    /// The number of a state tree node in its room: dense, never reused. 0 is the empty tree.
    NodeId(u32)
}
number! {
    /// An event's place in the topological order of its room's timeline.
    Rank(u64)
}
number! {
    /// A place in the order of all committed batches. Never used twice, not even after a restore.
    StreamPosition(u64)
}

impl Rank {
    /// The rank of a room's first event. Backfilled history counts down from the event it precedes, so there is room below.
    pub const FIRST: Self = Self(1 << 40);
    /// Distance that an event with missing `prev_events` keeps from the room's highest rank, so that the gap can be filled.
    pub const GAP: u64 = 1 << 32;

    /// The rank one below this one.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The rank one above this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl StreamPosition {
    /// Stands for "the position of the batch this is written in" inside a key or value that is not committed yet.
    pub const PENDING: Self = Self(u64::MAX);
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
