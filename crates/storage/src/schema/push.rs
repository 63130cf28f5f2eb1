//! Push rules and unread counts. Table numbers 38–39 and 63–64. Rules are written by the `users` crate, counts by `rooms`.

use primitives::{Rix, RoomNid, StreamPosition, UserNid};
use serde::{Deserialize, Serialize};

use crate::{Positioned, Raw};

use super::{tables, version_one};

tables! {
    /// What a user has not read in a room, as it was counted last. Can be lost: it is counted anew.
    Counts = 38, "count", (UserNid, RoomNid) => CountRow;
    /// What a user made of the push rules: rules of their own and changes to the default ones, JSON.
    PushRules = 63, "push_rules", (UserNid,) => Raw, large;
    /// When a user's push rules changed. Asserted by whoever changes [`PushRules`], and read to see whether what is in memory is current.
    PushRulesChanges = 64, "push_rules_change", (UserNid,) => Positioned<Changed>;
}

/// Something changed; its position says when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed;

/// What a user has not read in a room. Counts are pairs: events to be told of, and those of them that are to stand out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountRow {
    /// What was visible at this position is counted.
    pub upto: StreamPosition,
    /// The position at which the push rules, or whom the user ignores, changed last; zero if they never did.
    pub rules: StreamPosition,
    /// The position of the user's membership.
    pub member: StreamPosition,
    /// What was before this event, that of the user's join, doesn't count: its position and number. None: everything counts.
    pub since: Option<(StreamPosition, Rix)>,
    /// Outside threads.
    pub main: (u32, u32),
    /// By the event id of the thread's root.
    pub threads: Vec<(String, (u32, u32))>,
}

version_one!(CountRow, Changed);
