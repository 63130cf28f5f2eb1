//! What the configuration decides about jobs.

/// The limits of jobs.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Steps that run at once, all kinds together.
    pub concurrent: usize,
    /// Steps of one kind that run at once.
    pub concurrent_per_kind: usize,
    /// Failures in a row after which a job is set aside.
    pub failures_max: u32,
    /// Rooms or members that one step goes through.
    pub items_per_step: usize,
    /// Member events a second that the change of one profile may cause.
    pub profile_events_per_second: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrent: 4,
            concurrent_per_kind: 2,
            failures_max: 10,
            items_per_step: 20,
            profile_events_per_second: 100.0,
        }
    }
}
