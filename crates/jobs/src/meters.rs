//! What an operator sees on `/metrics`.

use metrics::{counter, gauge};

use crate::board::Count;

/// Names every number.
pub(crate) fn describe() {
    metrics::describe_gauge!("sundial_jobs", "Jobs by kind and state: queued, running, set_aside (failed too often)");
    metrics::describe_counter!("sundial_jobs_done_total", "Jobs that have been done, by kind");
    metrics::describe_counter!("sundial_jobs_failures_total", "Steps of jobs that failed and are tried again, by kind");
    metrics::describe_histogram!(
        "sundial_partial_state_seconds",
        "How long rooms took that were joined with a part of their state to be whole"
    );
    metrics::describe_counter!(
        "sundial_partial_state_failures_total",
        "Rounds of asking for the whole state of a room that failed and are repeated"
    );
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
pub(crate) fn levels(kind: &'static str, count: Count) {
    gauge!("sundial_jobs", "kind" => kind, "state" => "queued").set(count.queued as f64);
    gauge!("sundial_jobs", "kind" => kind, "state" => "running").set(count.running as f64);
    gauge!("sundial_jobs", "kind" => kind, "state" => "set_aside").set(count.set_aside as f64);
}

pub(crate) fn done(kind: &'static str) {
    counter!("sundial_jobs_done_total", "kind" => kind).increment(1);
}

pub(crate) fn failed(kind: &'static str) {
    counter!("sundial_jobs_failures_total", "kind" => kind).increment(1);
}
