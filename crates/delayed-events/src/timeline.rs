//! Waiting by the monotonic clock for times that are written down by the wall clock.
//!
//! What is on disk says *when* by the wall clock. What waits in memory waits on the *timeline*: the wall clock as it was at the start, carried
//! on by the monotonic clock, so that it never steps. The two differ by the *lead* of the wall clock, 0 at first. When the wall clock is
//! seen to have stepped, a new *era* begins, with the lead measured anew.
//!
//! - A delay that began in this process waits exactly that long, whatever the wall clock does: never less, and after a step back never
//!   more. Its due time is written with the lead of the era in which it began.
//! - A due time from disk belongs to the wall clock, and follows its steps: after a step forward it is due if the wall clock says so.
//!   A step back delays it, but by no more than the longest delay from the start on, so that nothing waits for ever.
//!
//! ```text
//!  wall clock    ────────▶│ step +3600 s ────────▶
//!  timeline      ────────────────────────────────▶   never steps
//!  era               1    │          2
//!  lead              0    │       3600 s
//! ```

use std::time::Duration;

use primitives::{Clock, UnixMillis};

/// A wall clock that is off by less than this is drifting or being slewed; by more, it has stepped.
const STEP: Duration = Duration::from_millis(250);

/// Eras are kept in few bits; a clock that has stepped this often is no longer followed.
const MAX_ERA: usize = (1 << 15) - 1;

/// A moment on the timeline, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(pub(crate) u64);

impl Moment {
    /// The span from an earlier moment to this one; zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Under which reading of the wall clock a due time was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Era(u16);

impl Era {
    /// Before this process: what was loaded from disk.
    pub(crate) const LOADED: Self = Self(0);

    /// The number, below 2¹⁵.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// The era with a number that [`Self::bits`] gave.
    pub(crate) fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// The timeline and the wall clock's leads over it.
#[derive(Debug)]
pub(crate) struct Timeline {
    /// Timeline minus monotonic clock, in milliseconds.
    base: u64,
    start: Moment,
    longest_delay: Duration,
    /// Wall clock minus timeline in each era from the first on, in milliseconds.
    leads: Vec<i64>,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn shift(time: u64, by: i64) -> u64 {
    time.saturating_add_signed(by)
}

impl Timeline {
    /// A timeline that begins now. No due time that is loaded is waited for longer than `longest_delay`.
    pub(crate) fn start(clock: &dyn Clock, longest_delay: Duration) -> Self {
        let (wall, monotonic) = (clock.now().0, millis(clock.monotonic()));
        Self { base: wall.saturating_sub(monotonic), start: Moment(wall), longest_delay, leads: vec![0] }
    }

    /// Now.
    pub(crate) fn now(&self, clock: &dyn Clock) -> Moment {
        Moment(self.base.saturating_add(millis(clock.monotonic())))
    }

    fn lead(&self) -> i64 {
        *self.leads.last().expect("the first era is always there")
    }

    /// The wall clock of the present era, without its drift.
    pub(crate) fn wall(&self, clock: &dyn Clock) -> UnixMillis {
        UnixMillis(shift(self.now(clock).0, self.lead()))
    }

    /// Looks whether the wall clock has stepped. If so a new era begins, and what was loaded is due at other moments.
    pub(crate) fn observe(&mut self, clock: &dyn Clock) -> bool {
        let (wall, expected) = (clock.now().0, self.wall(clock).0);
        if wall.abs_diff(expected) < millis(STEP) || self.leads.len() >= MAX_ERA {
            return false;
        }
        let lead = i64::try_from(i128::from(wall) - i128::from(self.now(clock).0)).unwrap_or_default();
        self.leads.push(lead);
        true
    }

    /// Begins a delay: the due time to write down, and its era.
    pub(crate) fn begin(&self, clock: &dyn Clock, delay: Duration) -> (UnixMillis, Era) {
        (self.wall(clock).plus(delay), self.era())
    }

    /// The present era.
    pub(crate) fn era(&self) -> Era {
        Era(u16::try_from(self.leads.len()).expect("eras are bounded"))
    }

    /// The moment at which a due time of an era has come. It is the end of that millisecond: the delay may have begun late in one.
    pub(crate) fn moment(&self, due: UnixMillis, era: Era) -> Moment {
        let end = due.0.saturating_add(1);
        if era == Era::LOADED {
            let latest = self.start.0.saturating_add(millis(self.longest_delay));
            return Moment(shift(end, self.lead().saturating_neg()).min(latest));
        }
        let lead = self.leads[usize::from(era.0) - 1];
        Moment(shift(end, lead.saturating_neg()))
    }
}

#[cfg(test)]
mod tests {
    use primitives::ManualClock;
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const YEAR: u64 = 365 * 86_400_000;

    #[test]
    fn a_delay_that_began_here_is_as_long_as_it_was_asked_for_whatever_the_wall_clock_does() {
        for wall in [0, 1_000, 2 * YEAR, 500_000_000_000] {
            let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
            let mut timeline = Timeline::start(&*clock, DAY);
            let begun = timeline.now(&*clock);
            let (due, era) = timeline.begin(&*clock, Duration::from_mins(1));
            clock.step_wall(UnixMillis(wall));
            assert!(timeline.observe(&*clock));
            assert_eq!(
                timeline.moment(due, era).since(begun),
                Duration::from_millis(60_001),
                "wall clock set to {wall}"
            );
        }
    }

    #[test]
    fn what_is_written_down_follows_the_wall_clock_of_its_era() {
        let clock = ManualClock::new(UnixMillis(1_000_000));
        let mut timeline = Timeline::start(&*clock, DAY);
        clock.advance(Duration::from_secs(1));
        clock.step_wall(UnixMillis(9_000_000));
        assert!(timeline.observe(&*clock));
        let (due, era) = timeline.begin(&*clock, Duration::from_secs(1));
        assert_eq!(due, UnixMillis(9_001_000));
        assert_eq!(timeline.moment(due, era).since(timeline.now(&*clock)), Duration::from_millis(1_001));
    }

    #[test]
    fn what_was_loaded_follows_steps_and_never_waits_for_ever() {
        let clock = ManualClock::new(UnixMillis(2 * YEAR));
        let mut timeline = Timeline::start(&*clock, DAY);
        let due = UnixMillis(2 * YEAR + 3_600_000);
        let wait = |t: &Timeline| t.moment(due, Era::LOADED).since(t.now(&*clock));
        assert_eq!(wait(&timeline), Duration::from_millis(3_600_001));
        clock.step_wall(UnixMillis(3 * YEAR));
        assert!(timeline.observe(&*clock));
        assert_eq!(wait(&timeline), Duration::ZERO);
        clock.step_wall(UnixMillis(YEAR));
        assert!(timeline.observe(&*clock));
        assert_eq!(wait(&timeline), DAY);
        clock.step_wall(UnixMillis(2 * YEAR));
        assert!(timeline.observe(&*clock));
        assert_eq!(wait(&timeline), Duration::from_millis(3_600_001));
    }

    #[test]
    fn a_small_drift_is_no_step() {
        let clock = ManualClock::new(UnixMillis(1_000_000));
        let mut timeline = Timeline::start(&*clock, DAY);
        clock.step_wall(UnixMillis(1_000_200));
        assert!(!timeline.observe(&*clock));
    }

    proptest! {
        #[test]
        fn no_delay_is_cut_short(steps in proptest::collection::vec((0_u64..10_000, 0_u64..4_000_000_000_000), 0..20), delay in 1_u64..86_400_000) {
            let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
            let mut timeline = Timeline::start(&*clock, DAY);
            let mut begun = Vec::new();
            for (advance, wall) in steps {
                begun.push((timeline.now(&*clock), timeline.begin(&*clock, Duration::from_millis(delay))));
                clock.advance(Duration::from_millis(advance));
                clock.step_wall(UnixMillis(wall));
                timeline.observe(&*clock);
            }
            for (since, (due, era)) in begun {
                prop_assert_eq!(timeline.moment(due, era).since(since), Duration::from_millis(delay + 1));
            }
        }
    }
}
