//! `[jobs]`.

use serde::{Deserialize, Serialize};

/// Durable work in the background: how much of it at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jobs {
    /// Steps of jobs that run at once.
    pub concurrent: u32,
    /// Steps of one kind of job that run at once.
    pub concurrent_per_kind: u32,
    /// Failures in a row after which a job is set aside for an hour.
    pub failures_max: u32,
    /// Member events per second that the change of one profile may cause.
    pub profile_events_per_second: f64,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { concurrent: 4, concurrent_per_kind: 2, failures_max: 10, profile_events_per_second: 100.0 }
    }
}
