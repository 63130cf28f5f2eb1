//! What an operator sees on `/metrics`.

use std::time::Duration;

use metrics::{Histogram, counter, gauge, histogram};
use storage::schema::delayed::{CancelReason, FailureKind, Outcome};

/// The numbers of this engine.
pub(crate) struct Meters {
    lateness: Histogram,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    /// Names every number, so that all are shown from the start.
    pub(crate) fn new() -> Self {
        metrics::describe_gauge!("sundial_delayed_events_pending", "Delayed events that are scheduled");
        metrics::describe_gauge!("sundial_delayed_events_due", "Delayed events that are due and not yet sent");
        metrics::describe_counter!("sundial_delayed_events_scheduled_total", "Delayed events that have been scheduled");
        metrics::describe_counter!("sundial_delayed_events_restarts_total", "Restarts of delayed events");
        metrics::describe_counter!(
            "sundial_delayed_events_total",
            "Delayed events that have ended, by outcome and reason"
        );
        metrics::describe_counter!(
            "sundial_delayed_events_retries_total",
            "Faults at the sending of due events that will be tried again"
        );
        metrics::describe_histogram!(
            "sundial_delayed_event_lateness_seconds",
            metrics::Unit::Seconds,
            "How long after their due times delayed events were in their rooms"
        );
        Self { lateness: histogram!("sundial_delayed_event_lateness_seconds") }
    }

    /// How much is scheduled and how much of it is due.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(crate) fn levels(pending: usize, due: usize) {
        gauge!("sundial_delayed_events_pending").set(pending as f64);
        gauge!("sundial_delayed_events_due").set(due as f64);
    }

    pub(crate) fn scheduled(count: usize) {
        counter!("sundial_delayed_events_scheduled_total").increment(count as u64);
    }

    pub(crate) fn restarted() {
        counter!("sundial_delayed_events_restarts_total").increment(1);
    }

    pub(crate) fn retried() {
        counter!("sundial_delayed_events_retries_total").increment(1);
    }

    pub(crate) fn late(&self, by: Duration) {
        self.lateness.record(by.as_secs_f64());
    }

    pub(crate) fn ended(outcome: &Outcome) {
        let (outcome, reason) = match outcome {
            Outcome::Sent { early: true, .. } => ("sent", "action"),
            Outcome::Sent { early: false, .. } => ("sent", "due"),
            Outcome::Cancelled(CancelReason::Action) => ("cancelled", "action"),
            Outcome::Cancelled(CancelReason::Group) => ("cancelled", "group"),
            Outcome::Cancelled(CancelReason::NewerState) => ("cancelled", "newer_state"),
            Outcome::Cancelled(CancelReason::Account) => ("cancelled", "account"),
            Outcome::Cancelled(CancelReason::Room) => ("cancelled", "room"),
            Outcome::Cancelled(CancelReason::Operator) => ("cancelled", "operator"),
            Outcome::Failed(failure) => ("failed", kind(failure.kind)),
        };
        counter!("sundial_delayed_events_total", "outcome" => outcome, "reason" => reason).increment(1);
    }
}

fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Forbidden => "forbidden",
        FailureKind::LimitExceeded => "limit_exceeded",
        FailureKind::TooLarge => "too_large",
        FailureKind::BadContent => "bad_content",
        FailureKind::Other => "other",
    }
}
