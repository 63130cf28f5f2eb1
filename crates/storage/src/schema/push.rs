//! Push rules and unread counts. Table numbers 38–39 and 63–64. Rules are written by the `users` crate, counts by `rooms`.

use primitives::UserNid;
use serde::{Deserialize, Serialize};

use crate::{Positioned, Raw, table::Versioned};

use super::tables;

tables! {
    /// What a user made of the push rules: rules of their own and changes to the default ones, JSON.
    PushRules = 63, "push_rules", (UserNid,) => Raw, large;
    /// When a user's push rules changed. Asserted by whoever changes [`PushRules`], and read to see whether what is in memory is current.
    PushRulesChanges = 64, "push_rules_change", (UserNid,) => Positioned<Changed>;
}

/// Something changed; its position says when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed;

impl Versioned for Changed {
    const VERSION: u8 = 1;
}
