//! What an operator may set.

use std::time::Duration;

use storage::schema::delayed::NewerState;
use users::Rate;

/// Settings of the engine, `[delayed_events]` in the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether new events may be scheduled. What is scheduled already is sent in any case.
    pub enabled: bool,
    /// The longest delay.
    pub max_delay: Duration,
    /// How many events a user may have scheduled at a time; 0 is as good as not `enabled`.
    pub max_scheduled_per_user: u32,
    /// How often a user may schedule.
    pub schedules: Rate,
    /// How often one event may be restarted.
    pub restarts_per_event: Rate,
    /// How often a user's events may be restarted.
    pub restarts_per_user: Rate,
    /// Whether the three rates and the number hold at all.
    pub enforce: bool,
    /// What a newer state event does to a delayed state event that is in no group.
    pub newer_state: NewerState,
    /// For so long a delayed state event that is asked for again, without a transaction id to tell, is the same one.
    pub duplicate_window: Duration,
    /// How long ended events may be read.
    pub finalised_kept: Duration,
    /// How many ended events of a user may be read.
    pub finalised_kept_per_user: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            max_delay: Duration::from_hours(24),
            max_scheduled_per_user: 100,
            schedules: Rate::new(1.0, 100),
            restarts_per_event: Rate::new(1.0, 10),
            restarts_per_user: Rate::new(20.0, 200),
            enforce: true,
            newer_state: NewerState::Ignored,
            duplicate_window: Duration::from_secs(5),
            finalised_kept: Duration::from_hours(7 * 24),
            finalised_kept_per_user: 1_000,
        }
    }
}
