//! The rate of each event's restarts, exact for each of a million events in the four bytes that its entry has for it.
//!
//! A *pace* is the moment until which past restarts have used up the rate, in milliseconds, of which the low 32 bits are kept; 0 if there
//! was none.

use std::time::Duration;

use users::Rate;

use crate::timeline::Moment;

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
}
