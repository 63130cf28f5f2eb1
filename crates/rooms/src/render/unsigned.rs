//! What the server adds to an event.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeMap};
use storage::schema::rooms::Membership;

use super::{ClientEvent, StoredEvent};

/// What the server adds to an event for the one who reads it.
#[derive(Clone, Debug, Default)]
pub struct Unsigned {
    /// Milliseconds since the event was made, by its server's clock and ours.
    pub age: Option<i64>,
    /// The state event that this one replaced: gives `prev_content` and `replaces_state`.
    pub replaces: Option<Arc<StoredEvent>>,
    /// The redaction that emptied the event.
    pub redacted_because: Option<Box<ClientEvent>>,
    /// The transaction id, for the device that sent the event.
    pub transaction_id: Option<String>,
    /// The delayed event that this one fulfils, for its sender (MSC4140).
    pub delay_id: Option<String>,
    /// The reader's membership just after the event (MSC4115).
    pub membership: Option<Membership>,
    /// What is aggregated of the events that relate to it.
    pub relations: Option<Box<Bundle>>,
    /// How many events relate to it (MSC2836).
    pub children: Option<Box<Children>>,
}

/// How many events relate to an event, and which (MSC2836).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Children {
    /// By `rel_type`.
    pub counts: BTreeMap<String, u64>,
    /// The SHA-256 of their ids, sorted, one after the other; base64 without padding.
    pub hash: String,
}

/// What is aggregated of the events that relate to an event (specification, client-server API, "Aggregations of child events").
#[derive(Clone, Debug, Default, Serialize)]
pub struct Bundle {
    /// The newest valid event that replaces it.
    #[serde(rename = "m.replace", skip_serializing_if = "Option::is_none")]
    pub replacement: Option<ClientEvent>,
    /// The thread that it is the root of.
    #[serde(rename = "m.thread", skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadSummary>,
    /// The events that refer to it.
    #[serde(rename = "m.reference", skip_serializing_if = "Option::is_none")]
    pub references: Option<References>,
}

impl Bundle {
    /// Whether nothing is aggregated.
    pub fn is_empty(&self) -> bool {
        self.replacement.is_none() && self.thread.is_none() && self.references.is_none()
    }
}

/// A thread as its root shows it.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadSummary {
    /// The newest event of the thread that the reader sees.
    pub latest_event: ClientEvent,
    /// How many events the thread has, without the root.
    pub count: u64,
    /// Whether the reader sent the root or an event of the thread.
    pub current_user_participated: bool,
}

/// The events that refer to an event.
#[derive(Clone, Debug, Serialize)]
pub struct References {
    /// Which ones.
    pub chunk: Vec<Reference>,
}

/// An event that refers to another.
#[derive(Clone, Debug, Serialize)]
pub struct Reference {
    /// Its id.
    pub event_id: String,
}

impl Serialize for Unsigned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(age) = self.age {
            map.serialize_entry("age", &age)?;
        }
        if let Some(children) = &self.children {
            map.serialize_entry("children", &children.counts)?;
            map.serialize_entry("children_hash", &children.hash)?;
        }
        if let Some(delay_id) = &self.delay_id {
            map.serialize_entry("delay_id", delay_id)?;
            map.serialize_entry("org.matrix.msc4140.delay_id", delay_id)?;
        }
        if let Some(relations) = &self.relations {
            map.serialize_entry("m.relations", relations)?;
        }
        if let Some(membership) = self.membership {
            map.serialize_entry("membership", membership.as_str())?;
        }
        if let Some(replaced) = &self.replaces {
            map.serialize_entry("prev_content", replaced.content())?;
            map.serialize_entry("prev_sender", &replaced.header.sender)?;
            map.serialize_entry("replaces_state", &replaced.header.event_id)?;
        }
        if let Some(because) = &self.redacted_because {
            map.serialize_entry("redacted_because", because)?;
        }
        if let Some(transaction_id) = &self.transaction_id {
            map.serialize_entry("transaction_id", transaction_id)?;
        }
        map.end()
    }
}
