//! Events as clients see them: the stored event, pruned if it has been redacted, and an `unsigned` made for the one who reads
//! (specification, client-server API, "Room event format").

mod stored;
mod unsigned;

use std::sync::Arc;

use ruma::OwnedRoomId;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::filter::EventFormat;

pub use stored::{BadStoredEvent, StoredEvent};
pub use unsigned::Unsigned;

/// An event made ready for one reader. Serialises as JSON; a clone shares the event.
#[derive(Clone, Debug)]
pub struct ClientEvent {
    /// The event, pruned if it has been redacted.
    pub event: Arc<StoredEvent>,
    /// The room, where the response doesn't say it otherwise: everywhere but in /sync.
    pub room_id: Option<OwnedRoomId>,
    /// What the server adds for this reader.
    pub unsigned: Unsigned,
    /// In which format.
    pub format: EventFormat,
}

impl Serialize for ClientEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self.event.fields(self.format) {
            map.serialize_entry(name, value)?;
        }
        map.serialize_entry("event_id", &self.event.header.event_id)?;
        if let Some(room_id) = &self.room_id {
            map.serialize_entry("room_id", room_id)?;
        }
        map.serialize_entry("unsigned", &self.unsigned)?;
        map.end()
    }
}

/// A state event cut down to what somebody outside the room may see of it: `type`, `state_key`, `sender`, `content`.
#[derive(Clone, Debug)]
pub struct StrippedEvent(pub Arc<StoredEvent>);

impl Serialize for StrippedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("content", self.0.content())?;
        map.serialize_entry("sender", &self.0.header.sender)?;
        map.serialize_entry("state_key", self.0.header.state_key.as_deref().unwrap_or_default())?;
        map.serialize_entry("type", &self.0.header.event_type)?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
