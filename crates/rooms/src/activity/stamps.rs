//! When each of many things, counted from 1, changed last, since the start: what lets something that was read be used as long as it holds.
//!
//! A writer announces its commit before it is visible and confirms it afterwards, so that no reader whose view already shows the commit takes what it
//! knows for unchanged (I10).

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use primitives::StreamPosition;

#[derive(Debug, Default)]
struct Stamp {
    /// The position of the newest change; 0: none since the start.
    last: AtomicU64,
    /// How many commits are under way.
    writing: AtomicU32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Stamps(RwLock<Vec<Stamp>>);

/// A commit that is under way. Dropped without [`Announced::committed`], it failed.
#[derive(Debug)]
pub(crate) struct Announced {
    stamps: Arc<Stamps>,
    of: BTreeSet<u32>,
}

impl Stamps {
    /// Announces a commit that changes these. Call it before the commit.
    pub(crate) fn announce(self: &Arc<Self>, of: BTreeSet<u32>) -> Announced {
        if let Some(last) = of.last().map(|last| *last as usize) {
            if self.0.read().len() <= last {
                let mut stamps = self.0.write();
                let len = stamps.len().max(last + 1);
                stamps.resize_with(len, Stamp::default);
            }
            let stamps = self.0.read();
            for one in &of {
                stamps[*one as usize].writing.fetch_add(1, Ordering::SeqCst);
            }
        }
        Announced { stamps: Arc::clone(self), of }
    }

    /// Whether what was read of one, since the start and at a position, is what a view at another position shows. Take the view first, ask
    /// afterwards.
    pub(crate) fn holds(&self, one: u32, read_at: StreamPosition, view_at: StreamPosition) -> bool {
        self.0.read().get(one as usize).is_none_or(|stamp| {
            stamp.writing.load(Ordering::SeqCst) == 0 && stamp.last.load(Ordering::SeqCst) <= read_at.min(view_at).0
        })
    }
}

impl Announced {
    /// Confirms the commit.
    pub(crate) fn committed(self, position: StreamPosition) {
        let stamps = self.stamps.0.read();
        for one in &self.of {
            stamps[*one as usize].last.fetch_max(position.0, Ordering::SeqCst);
        }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let stamps = self.stamps.0.read();
        for one in &self.of {
            stamps[*one as usize].writing.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_what_was_read_holds_until_a_commit_is_announced_and_again_if_that_fails() {
        let stamps = Arc::new(Stamps::default());
        let holds = |one, read_at, view_at| stamps.holds(one, StreamPosition(read_at), StreamPosition(view_at));
        assert!(holds(7, 5, 9));
        let writing = stamps.announce(BTreeSet::from([3, 7]));
        assert!(!holds(7, 5, 9) && !holds(3, 5, 9) && holds(4, 5, 9));
        drop(writing);
        assert!(holds(7, 5, 9));
        stamps.announce(BTreeSet::from([7])).committed(StreamPosition(8));
        assert_eq!((holds(7, 5, 9), holds(7, 8, 9), holds(7, 9, 8), holds(7, 9, 7)), (false, true, true, false));
        assert!(holds(3, 5, 9));
    }
}
