//! What a room has once and for all from its first one on, so that readers of a room that has none need not look.

use std::sync::atomic::{AtomicU8, Ordering};

/// Nobody has looked.
const UNKNOWN: u8 = 0;
/// Somebody has looked, and none was announced since.
const NONE: u8 = 1;
/// There are some, or there is about to be one.
const SOME: u8 = 2;

/// Whether a room has any of something.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicU8);

impl Mark {
    /// There is about to be one. Said before the commit that shows it.
    pub(super) fn announce(&self) {
        self.0.store(SOME, Ordering::SeqCst);
    }

    /// What is known.
    pub(super) fn known(&self) -> Option<bool> {
        match self.0.load(Ordering::SeqCst) {
            UNKNOWN => None,
            state => Some(state == SOME),
        }
    }

    /// A view showed none. One that has been announced since stays announced.
    pub(super) fn learn_none(&self) {
        // Fails where there is something to keep.
        let _ = self.0.compare_exchange(UNKNOWN, NONE, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_announced_is_not_forgotten_for_an_older_view() {
        let mark = Mark::default();
        assert_eq!(mark.known(), None);
        mark.learn_none();
        assert_eq!(mark.known(), Some(false));
        mark.announce();
        mark.learn_none();
        assert_eq!(mark.known(), Some(true));
    }
}
