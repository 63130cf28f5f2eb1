//! What almost every part stands on.

use primitives::{Random, SharedClock};
use storage::Storage;

/// The store, the time and randomness.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) storage: Storage,
    pub(crate) clock: SharedClock,
    pub(crate) random: Random,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ground")
    }
}
