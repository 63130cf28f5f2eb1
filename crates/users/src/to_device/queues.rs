//! Which queues are certainly empty, in memory, so that a sync without messages reads nothing for them.
//!
//! A writer announces its commit before it is visible. All of this can be lost: what is not known here is read.

use std::collections::HashMap;

use parking_lot::Mutex;
use primitives::{StreamPosition, UserNid};
use ruma::{DeviceId, OwnedDeviceId};

/// Locks that the users are spread over.
const SHARDS: usize = 64;
/// Queues that are known in one shard; beyond that those without writers are forgotten.
const QUEUES_A_SHARD: usize = 4_000;

/// Whose queue it is.
pub(super) type QueueKey = (UserNid, OwnedDeviceId);

/// What is known of a device's queue.
#[derive(Debug, Default)]
struct Queue {
    /// Commits that are under way.
    writers: u32,
    /// The newest message is not after this.
    newest: StreamPosition,
    /// All messages up to here are gone.
    empty_up_to: StreamPosition,
    /// Messages since the queue was last counted.
    uncounted: usize,
}

#[derive(Debug, Default)]
struct Shard {
    queues: HashMap<QueueKey, Queue>,
    /// The newest message of a queue that is not known here is not after this, unless it came before the start.
    floor: StreamPosition,
}

impl Shard {
    fn queue(&mut self, key: &QueueKey) -> &mut Queue {
        if self.queues.len() >= QUEUES_A_SHARD && !self.queues.contains_key(key) {
            let idle = self.queues.values().filter(|queue| queue.writers == 0);
            self.floor = idle.map(|queue| queue.newest).max().unwrap_or_default().max(self.floor);
            self.queues.retain(|_, queue| queue.writers > 0);
        }
        let newest = self.floor;
        self.queues.entry(key.clone()).or_insert_with(|| Queue { newest, ..Queue::default() })
    }
}

/// What is known of all devices' queues.
#[derive(Debug)]
pub(super) struct Queues(Box<[Mutex<Shard>]>);

impl Default for Queues {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Queues {
    fn shard(&self, user: UserNid) -> &Mutex<Shard> {
        &self.0[user.0 as usize % SHARDS]
    }

    /// A commit is under way that may bring messages to these queues. Whoever gives up before the outcome is known leaves it at that: the
    /// queues are then read each time.
    pub(super) fn announce(&self, keys: &[QueueKey]) {
        for key in keys {
            self.shard(key.0).lock().queue(key).writers += 1;
        }
    }

    /// The commit is done: at a position if it has brought messages. Answers the queues that have got so many since they were last counted.
    pub(super) fn settle(&self, keys: &[QueueKey], position: Option<StreamPosition>, many: usize) -> Vec<QueueKey> {
        let mut full = Vec::new();
        for key in keys {
            let mut shard = self.shard(key.0).lock();
            let queue = shard.queue(key);
            queue.writers = queue.writers.saturating_sub(1);
            let Some(position) = position else { continue };
            queue.newest = queue.newest.max(position);
            queue.uncounted += 1;
            if queue.uncounted > many {
                queue.uncounted = 0;
                full.push(key.clone());
            }
        }
        full
    }

    /// Whether the queue is certainly empty.
    pub(super) fn is_empty(&self, user: UserNid, device: &DeviceId) -> bool {
        let shard = self.shard(user).lock();
        let queue = shard.queues.get(&(user, device.to_owned()));
        queue.is_some_and(|queue| queue.writers == 0 && queue.newest <= queue.empty_up_to)
    }

    /// In a view of this position the queue was empty.
    pub(super) fn found_empty(&self, user: UserNid, device: &DeviceId, position: StreamPosition) {
        let mut shard = self.shard(user).lock();
        let queue = shard.queue(&(user, device.to_owned()));
        if queue.writers == 0 && queue.newest <= position {
            queue.empty_up_to = queue.empty_up_to.max(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOB: UserNid = UserNid(1);

    fn key(user: u32) -> QueueKey {
        (UserNid(user), "A".into())
    }

    fn found(queues: &Queues, position: u64) -> bool {
        queues.found_empty(BOB, "A".into(), StreamPosition(position));
        queues.is_empty(BOB, "A".into())
    }

    #[test]
    fn i10_a_queue_is_empty_only_if_no_writer_could_have_been_missed() {
        let queues = Queues::default();
        assert!(!queues.is_empty(BOB, "A".into()), "what is not known is read");
        assert!(found(&queues, 5));
        queues.announce(&[key(1)]);
        assert!(!queues.is_empty(BOB, "A".into()));
        assert!(!found(&queues, 6), "the writer may commit after the view");
        queues.settle(&[key(1)], Some(StreamPosition(8)), 9);
        assert!(!found(&queues, 7), "the view is older than the message");
        assert!(found(&queues, 8), "read and gone");
        queues.announce(&[key(1)]);
        queues.settle(&[key(1)], None, 9);
        assert!(queues.is_empty(BOB, "A".into()), "nothing was written");
    }

    #[test]
    fn queues_that_are_forgotten_are_not_taken_for_empty() {
        let queues = Queues::default();
        assert!(found(&queues, 5));
        queues.announce(&[key(1)]);
        queues.settle(&[key(1)], Some(StreamPosition(8)), 9);
        let shards = u32::try_from(SHARDS).expect("few");
        for number in 1..=u32::try_from(QUEUES_A_SHARD).expect("few") {
            queues.found_empty(UserNid(1 + number * shards), "A".into(), StreamPosition(8));
        }
        assert!(!queues.0.iter().any(|shard| shard.lock().queues.contains_key(&key(1))), "forgotten");
        assert!(!found(&queues, 7), "an old view does not hide what came after it");
        assert!(found(&queues, 8));
    }

    #[test]
    fn queues_are_counted_now_and_then() {
        let queues = Queues::default();
        let due = |_| {
            queues.announce(&[key(1)]);
            queues.settle(&[key(1)], Some(StreamPosition(1)), 2).len()
        };
        assert_eq!((0..7).map(due).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 1, 0]);
    }
}
