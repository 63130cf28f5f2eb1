//! Delayed events as their owners see them, in the words of each generation.

use ::delayed_events::{DelayedEvent, Outcome};
use serde_json::{Map, Value, json};

use super::errors;

fn base(event: &DelayedEvent) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("delay_id".to_owned(), json!(event.delay_id.as_str()));
    body.insert("room_id".to_owned(), json!(event.room_id));
    body.insert("type".to_owned(), json!(event.event_type));
    if let Some(state_key) = &event.state_key {
        body.insert("state_key".to_owned(), json!(state_key));
    }
    body.insert("content".to_owned(), json!(event.content));
    body
}

fn delay(event: &DelayedEvent) -> Option<Value> {
    event.delay.map(|delay| json!(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
}

/// When and how an event ended, in the words of the merged text.
fn finalised(event: &DelayedEvent) -> Option<Map<String, Value>> {
    let (at, outcome) = event.finalised.as_ref()?;
    let mut body = Map::new();
    body.insert("finalised_ts".to_owned(), json!(at.0));
    match outcome {
        Outcome::Sent { event_id, .. } => drop(body.insert("event_id".to_owned(), json!(event_id))),
        Outcome::Failed(failure) => drop(body.insert("error".to_owned(), errors::failure(failure))),
        Outcome::Cancelled(_) => {}
    }
    Some(body)
}

/// An event in the words of the merged text.
pub(super) fn stable(event: &DelayedEvent) -> Value {
    let mut body = base(event);
    if let Some(delay) = delay(event) {
        body.insert("delay_ms".to_owned(), delay);
    }
    body.insert("delayed_since_ts".to_owned(), json!(event.running_since.0));
    if let Some(finalised) = finalised(event) {
        body.insert("finalised".to_owned(), Value::Object(finalised));
    }
    Value::Object(body)
}

/// An event in the words of all unstable texts together.
pub(super) fn unstable(event: &DelayedEvent) -> Value {
    let mut body = stable(event);
    if let Value::Object(body) = &mut body {
        body.extend(delay(event).map(|delay| ("delay".to_owned(), delay)));
        body.insert("running_since".to_owned(), json!(event.running_since.0));
        body.insert("scheduled_at".to_owned(), json!(event.scheduled_at.0));
        body.extend(event.transaction_id.as_ref().map(|txn| ("transaction_id".to_owned(), json!(txn))));
        body.extend(finalised(event).unwrap_or_default());
    }
    body
}

/// A scheduled event in the words of 2025.
pub(super) fn scheduled_2025(event: &DelayedEvent) -> Value {
    let mut body = base(event);
    body.extend(delay(event).map(|delay| ("delay".to_owned(), delay)));
    body.insert("running_since".to_owned(), json!(event.running_since.0));
    body.extend(event.transaction_id.as_ref().map(|txn| ("transaction_id".to_owned(), json!(txn))));
    Value::Object(body)
}

/// An ended event in the words of 2025; `None`: it has not ended.
pub(super) fn finalised_2025(event: &DelayedEvent) -> Option<Value> {
    let (at, outcome) = event.finalised.as_ref()?;
    let mut body = match outcome {
        Outcome::Sent { event_id, early } => {
            let reason = if *early { "action" } else { "delay" };
            json!({ "outcome": "send", "reason": reason, "event_id": event_id, "origin_server_ts": at.0 })
        }
        Outcome::Failed(failure) => {
            json!({ "outcome": "cancel", "reason": "error", "error": errors::failure(failure) })
        }
        Outcome::Cancelled(_) => json!({ "outcome": "cancel", "reason": "action" }),
    };
    body["delayed_event"] = scheduled_2025(event);
    Some(body)
}
