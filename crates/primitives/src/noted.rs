//! Things to be looked at, each once however often it is noted, and a wake-up for the one who looks.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Notes for one follower. Kept in memory only: at its start the follower looks at what is stored.
///
/// It never has more entries than there are different things to note, so whoever notes what strangers decide bounds that.
#[derive(Debug)]
pub struct Noted<T> {
    things: Mutex<BTreeSet<T>>,
    some: Notify,
}

impl<T> Default for Noted<T> {
    fn default() -> Self {
        Self { things: Mutex::default(), some: Notify::new() }
    }
}

impl<T: Ord> Noted<T> {
    /// Notes something and wakes the follower. Call it after the commit.
    pub fn note(&self, thing: T) {
        self.things.lock().insert(thing);
        self.some.notify_one();
    }

    /// Takes everything that is noted.
    pub fn take(&self) -> BTreeSet<T> {
        std::mem::take(&mut *self.things.lock())
    }

    /// Waits until something has been noted; at once if that was since the last wait. Safe to cancel.
    pub async fn some(&self) {
        self.some.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_noted_while_nobody_waits_is_told_once() {
        let noted = Noted::default();
        for thing in [2, 1, 2] {
            noted.note(thing);
        }
        noted.some().await;
        assert_eq!(noted.take().into_iter().collect::<Vec<_>>(), [1, 2]);
        assert!(noted.take().is_empty());
    }
}
