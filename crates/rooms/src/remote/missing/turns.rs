//! Which rooms fetch at the moment, and for which events fetching failed lately. In memory, and bounded: what is forgotten costs a question.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use primitives::RoomNid;
use quick_cache::sync::Cache;
use ruma::{EventId, OwnedEventId};
use tokio::sync::Mutex;

/// Rooms whose turn is remembered.
const ROOMS: usize = 10_000;
/// Events for which fetching failed that are remembered.
const FAILED: usize = 10_000;
/// After a failure nothing is fetched for the event for this long, which doubles with each failure …
const PAUSE: Duration = Duration::from_secs(5);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// An event for which fetching failed.
#[derive(Clone, Copy)]
struct Failure {
    times: u32,
    /// On the monotonic clock: not before this again.
    not_before: Duration,
}

/// See the module's documentation.
pub(crate) struct Turns {
    rooms: Cache<RoomNid, Arc<Mutex<()>>>,
    failed: Cache<OwnedEventId, Failure>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { rooms: Cache::new(ROOMS), failed: Cache::new(FAILED) }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}

impl Turns {
    /// The lock of a room: who holds it fetches.
    pub(in crate::remote) fn of(&self, room: RoomNid) -> Arc<Mutex<()>> {
        let made: Result<_, Infallible> = self.rooms.get_or_insert_with(&room, || Ok(Arc::default()));
        made.unwrap_or_default()
    }

    /// Whether fetching for an event failed so lately that it isn't tried again yet.
    pub(in crate::remote) fn failed_lately(&self, id: &EventId, now: Duration) -> bool {
        self.failed.get(id).is_some_and(|failure| now < failure.not_before)
    }

    /// Notes that fetching for an event has failed.
    pub(in crate::remote) fn failed(&self, id: &EventId, now: Duration) {
        let times = self.failed.get(id).map_or(0, |failure| failure.times);
        let pause = PAUSE.saturating_mul(1 << times.min(10)).min(PAUSE_MAX);
        let failure = Failure { times: times.saturating_add(1), not_before: now.saturating_add(pause) };
        self.failed.insert(id.to_owned(), failure);
    }
}

#[cfg(test)]
mod tests {
    use ruma::event_id;

    use super::*;

    #[test]
    fn each_failure_makes_the_pause_longer_up_to_a_bound() {
        let (turns, id) = (Turns::default(), event_id!("$a"));
        assert!(!turns.failed_lately(id, Duration::ZERO));
        turns.failed(id, Duration::ZERO);
        assert!(turns.failed_lately(id, Duration::from_secs(4)));
        assert!(!turns.failed_lately(id, Duration::from_secs(5)));
        turns.failed(id, Duration::from_secs(5));
        assert!(turns.failed_lately(id, Duration::from_secs(14)));
        assert!(!turns.failed_lately(id, Duration::from_secs(15)));
        for _ in 0..40 {
            turns.failed(id, Duration::ZERO);
        }
        assert!(!turns.failed_lately(id, PAUSE_MAX));
        assert!(!turns.failed_lately(event_id!("$b"), Duration::ZERO));
    }
}
