//! Which accounts are suspended, in memory: it is asked at every send, and changes when an administrator says so.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use primitives::UserNid;
use quick_cache::sync::Cache;

/// Users of whom it is remembered.
const USERS: usize = 20_000;

/// What is remembered. A change of any account that might matter makes all of it void.
#[derive(Debug)]
pub(super) struct Suspended {
    known: Cache<UserNid, (u64, bool)>,
    /// Counts changes.
    changes: AtomicU64,
    /// Changes that are under way: meanwhile nothing is remembered.
    under_way: AtomicU32,
}

/// A change of an account that is under way. If it is dropped before its end, nobody knows what became of it: from then on nothing is remembered.
#[derive(Debug)]
pub(crate) struct Changing<'a>(&'a Suspended);

impl Changing<'_> {
    /// The change has come to its end, whatever that is.
    pub(crate) fn end(self) {
        self.0.changes.fetch_add(1, Ordering::SeqCst);
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Suspended {
    pub(super) fn new() -> Self {
        Self { known: Cache::new(USERS), changes: AtomicU64::new(0), under_way: AtomicU32::new(0) }
    }

    /// Announces a change. Call it before the commit.
    pub(super) fn changing(&self) -> Changing<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Changing(self)
    }

    /// Up to which change the store is read by whoever reads it now; `None` if that can't be said.
    pub(super) fn moment(&self) -> Option<u64> {
        (self.under_way.load(Ordering::SeqCst) == 0).then(|| self.changes.load(Ordering::SeqCst))
    }

    /// What is known of a user at a moment.
    pub(super) fn get(&self, user: UserNid, moment: Option<u64>) -> Option<bool> {
        self.known.get(&user).filter(|(known, _)| Some(*known) == moment).map(|(_, suspended)| suspended)
    }

    /// Remembers what the store said to somebody who asked for the moment first and read then.
    pub(super) fn remember(&self, user: UserNid, moment: Option<u64>, suspended: bool) {
        if let Some(moment) = moment {
            self.known.insert(user, (moment, suspended));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: UserNid = UserNid(1);

    #[test]
    fn what_was_read_before_a_change_ends_is_never_believed_after_it() {
        let suspended = Suspended::new();
        let before = suspended.moment();
        suspended.remember(BOB, before, false);
        assert_eq!(suspended.get(BOB, suspended.moment()), Some(false));
        let changing = suspended.changing();
        assert_eq!((suspended.moment(), suspended.get(BOB, suspended.moment())), (None, None));
        suspended.remember(BOB, before, false);
        changing.end();
        assert_eq!(suspended.get(BOB, suspended.moment()), None, "it was read before");
        suspended.remember(BOB, suspended.moment(), true);
        assert_eq!(suspended.get(BOB, suspended.moment()), Some(true));
        let _abandoned = suspended.changing();
        assert_eq!(suspended.moment(), None, "nobody knows what became of that");
    }
}
