//! Time as a parameter, so that tests decide what it is.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Milliseconds since the Unix epoch, as `origin_server_ts` counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time and a span later; stops at the end of time instead of wrapping.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The span from an earlier time to this one; zero if `earlier` is in fact later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A boxed sleep.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A source of wall-clock and monotonic time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May step in either direction.
    fn now(&self) -> UnixMillis;
    /// Time since some fixed moment. Never steps back; goes on at the same rate whatever the wall clock does, and while the machine is
    /// suspended.
    fn monotonic(&self) -> Duration;
    /// Waits until the monotonic clock has advanced by `span`; after a suspension of the machine up to a minute longer.
    fn sleep(&self, span: Duration) -> Sleep;
}

/// A clock that may be handed to any number of owners.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock {
    started: Duration,
}

/// The longest that a sleep goes without looking at the clock: timers stand still while the machine is suspended, the clock does not. Who has
/// to notice sooner sleeps for less at a time.
const LONGEST_DOZE: Duration = Duration::from_mins(1);

/// Time since the machine was started, suspension included.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Waits until a clock shows a time, looking at it now and then.
async fn sleep_until(until: Duration, clock: impl Fn() -> Duration, doze: Duration) {
    loop {
        let left = until.saturating_sub(clock());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(doze)).await;
    }
}

impl SystemClock {
    /// A handle to the machine's clock; its monotonic time counts from now.
    pub fn new() -> Self {
        Self { started: since_boot() }
    }

    /// The same, ready to be shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> UnixMillis {
        let span = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        since_boot().saturating_sub(self.started)
    }

    fn sleep(&self, span: Duration) -> Sleep {
        Box::pin(sleep_until(since_boot().saturating_add(span), since_boot, LONGEST_DOZE))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    wall: Mutex<UnixMillis>,
    monotonic: watch::Sender<Duration>,
}

impl ManualClock {
    /// A clock that shows `wall` and has run for no time.
    pub fn new(wall: UnixMillis) -> Arc<Self> {
        Arc::new(Self { wall: Mutex::new(wall), monotonic: watch::Sender::new(Duration::ZERO) })
    }

    /// Lets `span` pass on both clocks and wakes the sleepers whose time has come.
    pub fn advance(&self, span: Duration) {
        let mut wall = self.wall.lock();
        *wall = wall.plus(span);
        drop(wall);
        self.monotonic.send_modify(|now| *now += span);
    }

    /// Sets the wall clock, as an administrator or a time server would. The monotonic clock does not notice.
    pub fn step_wall(&self, to: UnixMillis) {
        *self.wall.lock() = to;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        *self.wall.lock()
    }

    fn monotonic(&self) -> Duration {
        *self.monotonic.borrow()
    }

    fn sleep(&self, span: Duration) -> Sleep {
        let mut watch = self.monotonic.subscribe();
        let until = self.monotonic() + span;
        Box::pin(async move {
            // The sender lives as long as the clock; if it is gone nobody can be waiting for time to pass.
            let _ = watch.wait_for(|now| *now >= until).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_sleep_ends_when_time_is_moved_and_ignores_wall_steps() {
        let clock = ManualClock::new(UnixMillis(1_000));
        let sleep = clock.sleep(Duration::from_millis(50));
        clock.step_wall(UnixMillis(9_999_999));
        assert_eq!(clock.monotonic(), Duration::ZERO);
        clock.advance(Duration::from_millis(50));
        sleep.await;
        assert_eq!(clock.now(), UnixMillis(10_000_049));
    }

    #[tokio::test]
    async fn a_sleep_ends_soon_after_a_suspension_that_was_longer() {
        const HOUR: Duration = Duration::from_hours(1);
        let suspended = Mutex::new(Duration::ZERO);
        let clock = || since_boot() + *suspended.lock();
        let mut sleep = Box::pin(sleep_until(clock() + HOUR, clock, Duration::from_millis(5)));
        let nap = tokio::time::timeout(Duration::from_millis(50), &mut sleep).await;
        assert!(nap.is_err(), "an hour has not passed");
        *suspended.lock() = HOUR;
        tokio::time::timeout(Duration::from_mins(1), sleep).await.expect("the machine slept the rest");
    }

    #[tokio::test]
    async fn the_machines_clock_counts_from_its_making_and_sleeps_no_less_than_asked() {
        let before = since_boot();
        let clock = SystemClock::new();
        clock.sleep(Duration::from_millis(5)).await;
        let shown = clock.monotonic();
        assert!(shown >= Duration::from_millis(5) && shown <= since_boot().saturating_sub(before));
    }

    #[test]
    fn spans_saturate() {
        assert_eq!(UnixMillis(5).since(UnixMillis(9)), Duration::ZERO);
        assert_eq!(UnixMillis(u64::MAX).plus(Duration::from_secs(1)), UnixMillis(u64::MAX));
    }
}
