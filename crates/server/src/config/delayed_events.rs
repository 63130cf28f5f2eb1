//! `[delayed_events]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Span;

/// Delayed events (MSC4140): what is served and how much of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DelayedEvents {
    /// Whether events can be scheduled at all.
    pub enabled: bool,
    /// Whether the stable paths are advertised (`org.matrix.msc4140.stable` in `/versions`).
    pub stable: bool,
    /// The longest delay that is accepted.
    pub max_delay: Span,
    /// Scheduled events a user may have at once. 0 switches scheduling off.
    pub max_scheduled_per_user: u32,
    /// Whether a delayed event is managed on the unstable paths by its id alone, without an access token.
    pub tokenless_unstable: bool,
    /// Whether a newer state event for the same key cancels a delayed state event.
    pub cancel_on_newer_state: CancelOnNewerState,
    /// How long a repeated `PUT …/state?org.matrix.msc4140.delay=` counts as a retry of the first.
    pub duplicate_window: Span,
    /// How long a finalised event can be looked up.
    pub finalised_retention: Span,
    /// How many finalised events of a user are kept.
    pub finalised_max_per_user: u32,
    /// Schedules per user and second.
    pub schedules_per_user_per_second: f64,
    /// Schedules a user may make at once.
    pub schedules_per_user_burst: u32,
    /// Restarts per delayed event and second.
    pub restarts_per_id_per_second: f64,
    /// Restarts of one delayed event at once.
    pub restarts_per_id_burst: u32,
    /// Restarts per user and second.
    pub restarts_per_user_per_second: f64,
    /// Restarts a user may make at once.
    pub restarts_per_user_burst: u32,
}

/// Which newer state events cancel a delayed state event for the same room, type and state key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelOnNewerState {
    /// None, as the merged text of MSC4140 says.
    Never,
    /// Those of another sender, as in its text of October 2024.
    OtherSender,
    /// All.
    Any,
}

impl Default for DelayedEvents {
    fn default() -> Self {
        Self {
            enabled: true,
            stable: true,
            max_delay: Span(Duration::from_hours(24)),
            max_scheduled_per_user: 100,
            tokenless_unstable: true,
            cancel_on_newer_state: CancelOnNewerState::Never,
            duplicate_window: Span(Duration::from_secs(5)),
            finalised_retention: Span(Duration::from_hours(7 * 24)),
            finalised_max_per_user: 1_000,
            schedules_per_user_per_second: 1.0,
            schedules_per_user_burst: 100,
            restarts_per_id_per_second: 1.0,
            restarts_per_id_burst: 10,
            restarts_per_user_per_second: 20.0,
            restarts_per_user_burst: 200,
        }
    }
}
