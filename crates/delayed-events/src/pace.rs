//! Rates: how often somebody may do something. A *pace* is the moment until which past doings have used up the rate, in milliseconds,
//! of which the low 32 bits are kept; 0 if nothing was ever done.

use std::{collections::HashMap, time::Duration};

use primitives::UserNid;

use crate::timeline::Moment;

/// So many a second in the long run, so many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In the long run; more than 1,000 is no limit.
    pub per_second: f64,
    /// At once.
    pub burst: u32,
}

/// A rate in whole milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    interval: u32,
    ahead: u32,
}

fn low(moment: Moment) -> u32 {
    u32::try_from(moment.0 & u64::from(u32::MAX)).expect("32 bits")
}

impl Pace {
    /// The rate in milliseconds.
    pub(crate) fn new(rate: Rate) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / rate.per_second).unwrap_or(Duration::from_hours(24));
        let interval = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX / 4).min(86_400_000);
        Self { interval, ahead: interval.saturating_mul(rate.burst.saturating_sub(1)).min(i32::MAX as u32 / 2) }
    }

    /// Does it once more, or says how long until that is allowed.
    pub(crate) fn take(self, pace: &mut u32, now: Moment) -> Result<(), Duration> {
        let now = low(now);
        let used = pace.wrapping_sub(now);
        // What is behind now, or too far ahead to have been set by this rate, is long past.
        let used = if *pace == 0 || used > self.ahead.saturating_add(self.interval) { 0 } else { used };
        if used > self.ahead {
            return Err(Duration::from_millis(u64::from(used - self.ahead)));
        }
        *pace = now.wrapping_add(used).wrapping_add(self.interval).max(1);
        Ok(())
    }

    fn is_past(self, pace: u32, now: Moment) -> bool {
        pace.wrapping_sub(low(now)) > self.ahead.saturating_add(self.interval)
    }
}

/// A rate for each user.
#[derive(Debug)]
pub(crate) struct UserPaces {
    pace: Pace,
    users: HashMap<UserNid, u32>,
    sweep_at: usize,
}

const SWEEP_AT_LEAST: usize = 4096;

impl UserPaces {
    /// Nobody has done anything yet.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { pace: Pace::new(rate), users: HashMap::new(), sweep_at: SWEEP_AT_LEAST }
    }

    /// A user does it once more, or is told how long until that is allowed.
    pub(crate) fn take(&mut self, user: UserNid, now: Moment) -> Result<(), Duration> {
        if self.users.len() >= self.sweep_at {
            self.users.retain(|_, pace| !self.pace.is_past(*pace, now));
            self.sweep_at = SWEEP_AT_LEAST.max(self.users.len() * 2);
        }
        self.pace.take(self.users.entry(user).or_insert(0), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let pace = Pace::new(Rate { per_second: 1.0, burst: 3 });
        for start in [0, 1_700_000_000_000, u64::from(u32::MAX) - 1_500] {
            let mut state = 0;
            (0..3).for_each(|_| assert_eq!(pace.take(&mut state, Moment(start)), Ok(())));
            assert_eq!(pace.take(&mut state, Moment(start + 400)), Err(Duration::from_millis(600)));
            assert_eq!(pace.take(&mut state, Moment(start + 1_000)), Ok(()));
            assert!(pace.take(&mut state, Moment(start + 1_001)).is_err());
            (0..3).for_each(|_| assert_eq!(pace.take(&mut state, Moment(start + 10_000)), Ok(())));
        }
    }

    #[test]
    fn users_have_a_pace_each_and_are_forgotten() {
        let mut paces = UserPaces::new(Rate { per_second: 1.0, burst: 1 });
        for user in 0..10_000 {
            let now = Moment(u64::from(user) * 10);
            assert_eq!(paces.take(UserNid(user), now), Ok(()));
            assert!(paces.take(UserNid(user), now).is_err());
        }
        assert!(paces.users.len() < 5_000, "{}", paces.users.len());
    }
}
