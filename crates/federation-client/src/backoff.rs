//! When a server that failed is asked again: pauses that double, with jitter, kept in memory.

use std::{sync::Arc, time::Duration};

use primitives::{Random, SharedClock};
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
}

impl BackOff {
    pub(crate) fn new(pauses: Pauses, clock: SharedClock, random: Random) -> Arc<Self> {
        Arc::new(Self { pauses, failing: Cache::new(REMEMBERED), clock, random })
    }

    /// How much longer the server is left alone. None: it may be asked.
    pub(crate) fn remaining(&self, server: &ServerName) -> Option<Duration> {
        let failing = self.failing.get(server)?;
        failing.until.checked_sub(self.clock.monotonic()).filter(|left| !left.is_zero())
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
    }

    /// The server answered, or asked something itself.
    pub(crate) fn alive(&self, server: &ServerName) {
        self.failing.remove(server);
    }
}

#[cfg(test)]
mod tests {
    use primitives::{ManualClock, UnixMillis};
    use ruma::server_name;

    use super::*;

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
