//! An event as push rules look at it.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::{glob, path};

/// An event as push rules look at it. One serves all users.
#[derive(Debug)]
pub struct PushEvent {
    event: Map<String, Value>,
    body: OnceLock<Option<String>>,
}

impl PushEvent {
    /// An event in the form that clients see: with `event_id`, `room_id`, `sender`, `type`, `content` and, for state events, `state_key`.
    pub fn new(event: Map<String, Value>) -> Self {
        Self { event, body: OnceLock::new() }
    }

    /// A property with a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.event.get(name)?.as_str()
    }

    /// Whether it says itself whom it mentions (client-server API, "User and room mentions").
    pub(super) fn has_mentions(&self) -> bool {
        self.event.get("content").is_some_and(|content| content.get("m.mentions").is_some())
    }

    /// What is at the end of a path.
    pub(super) fn find(&self, path: &[String]) -> Option<&Value> {
        path::find(&self.event, path)
    }

    /// `content.body`, as patterns compare it.
    pub(super) fn body(&self) -> Option<&str> {
        let body = self.body.get_or_init(|| {
            let body = self.event.get("content")?.get("body")?.as_str()?;
            Some(glob::folded(body).into_owned())
        });
        body.as_deref()
    }
}
