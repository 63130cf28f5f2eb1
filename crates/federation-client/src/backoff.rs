//! When a server that failed is asked again: pauses that double, with jitter. Kept in memory; who sends to servers stores them too
//! ([`crate::Destination`]), so that a restart ends no pause.

use std::{sync::Arc, time::Duration};

use primitives::{Noted, Random, SharedClock};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};

/// Servers whose failures are remembered. Who is forgotten is simply tried again.
const REMEMBERED: usize = 50_000;

/// The shortest and the longest pause.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first failure.
    pub min: Duration,
    /// However many follow.
    pub max: Duration,
}

/// A server that failed last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Failures in a row.
    pub failures: u32,
    /// How much longer it is left alone; zero: it may be asked again.
    pub left: Duration,
}

/// Failures in a row, and the end of the pause on the monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Failing {
    failures: u32,
    until: Duration,
}

/// The servers that failed lately.
pub(crate) struct BackOff {
    pauses: Pauses,
    failing: Cache<OwnedServerName, Failing>,
    clock: SharedClock,
    random: Random,
    /// Servers whose pause has begun, grown or ended.
    changed: Noted<OwnedServerName>,
}

impl BackOff {
    pub(crate) fn new(pauses: Pauses, clock: SharedClock, random: Random) -> Arc<Self> {
        Arc::new(Self { pauses, failing: Cache::new(REMEMBERED), clock, random, changed: Noted::default() })
    }

    /// How much longer the server is left alone. None: it may be asked.
    pub(crate) fn remaining(&self, server: &ServerName) -> Option<Duration> {
        self.pause(server).map(|pause| pause.left).filter(|left| !left.is_zero())
    }

    /// What is known of a server that failed last time.
    pub(crate) fn pause(&self, server: &ServerName) -> Option<Pause> {
        let Failing { failures, until } = self.failing.get(server)?;
        Some(Pause { failures, left: until.saturating_sub(self.clock.monotonic()) })
    }

    /// Goes on with a pause of before the start.
    pub(crate) fn restore(&self, server: &ServerName, pause: Pause) {
        let until = self.clock.monotonic().saturating_add(pause.left.min(self.pauses.max.saturating_mul(2)));
        self.failing.insert(server.to_owned(), Failing { failures: pause.failures, until });
    }

    /// The servers whose pause has begun, grown or ended.
    pub(crate) fn changed(&self) -> &Noted<OwnedServerName> {
        &self.changed
    }

    /// The server failed. Of requests that were under way together only the first counts.
    pub(crate) fn failed(&self, server: &ServerName) {
        if self.remaining(server).is_some() {
            return;
        }
        let failures = self.failing.get(server).map_or(0, |failing| failing.failures);
        let doubled = self.pauses.min.saturating_mul(1 << failures.min(20)).min(self.pauses.max);
        // From three to five quarters: servers that failed together are not all asked at the same moment.
        let percent = u32::try_from(75 + self.random.below(51)).expect("at most 125");
        let until = self.clock.monotonic().saturating_add(doubled.saturating_mul(percent) / 100);
        self.failing.insert(server.to_owned(), Failing { failures: failures.saturating_add(1), until });
        self.changed.note(server.to_owned());
    }

    /// The server answered, or asked something itself.
    pub(crate) fn alive(&self, server: &ServerName) {
        if self.failing.remove(server).is_some() {
            self.changed.note(server.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use primitives::{ManualClock, UnixMillis};
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_pause_outlives_a_restart_and_whoever_follows_is_told_of_changes() {
        let clock = ManualClock::new(UnixMillis(0));
        let pauses = Pauses { min: Duration::from_mins(1), max: Duration::from_mins(3) };
        let back_off = BackOff::new(pauses, clock.clone(), Random::seeded(1));
        let server = server_name!("x.test");
        back_off.restore(server, Pause { failures: 1, left: Duration::from_secs(10) });
        assert!(back_off.changed().take().is_empty());
        assert_eq!(back_off.remaining(server), Some(Duration::from_secs(10)));
        clock.advance(Duration::from_secs(10));
        assert_eq!(back_off.remaining(server), None);
        back_off.failed(server);
        assert_eq!(back_off.pause(server).map(|pause| pause.failures), Some(2));
        assert_eq!(back_off.changed().take().len(), 1);
        back_off.alive(server);
        back_off.alive(server);
        assert_eq!((back_off.pause(server), back_off.changed().take().len()), (None, 1));
        back_off.alive(server);
        assert!(back_off.changed().take().is_empty(), "it did not fail");
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_end_with_contact() {
        let clock = ManualClock::new(UnixMillis(0));
        let pauses = Pauses { min: Duration::from_mins(1), max: Duration::from_mins(3) };
        let back_off = BackOff::new(pauses, clock.clone(), Random::seeded(1));
        let server = server_name!("x.test");
        for minutes in [1, 2, 3, 3] {
            back_off.failed(server);
            back_off.failed(server);
            let pause = back_off.remaining(server).expect("left alone");
            let (least, most) = (Duration::from_secs(45 * minutes), Duration::from_secs(75 * minutes));
            assert!((least..=most).contains(&pause), "{minutes}: {pause:?}");
            clock.advance(pause);
            assert_eq!(back_off.remaining(server), None);
        }
        back_off.failed(server);
        back_off.alive(server);
        assert_eq!(back_off.remaining(server), None);
        back_off.failed(server);
        assert!(back_off.remaining(server).expect("left alone") <= Duration::from_secs(75), "it begins anew");
    }
}
