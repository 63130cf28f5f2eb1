//! Events as clients see them: the stored event, pruned if it has been redacted, and an `unsigned` made for the one who reads
//! (specification, client-server API, "Room event format").

mod stored;
mod unsigned;

use std::sync::Arc;

use ruma::OwnedRoomId;
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::Value;

use crate::filter::{EventFields, EventFormat};

pub use stored::{BadStoredEvent, StoredEvent};
pub use unsigned::{Bundle, Children, Reference, References, ThreadSummary, Unsigned};

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
    /// Which of its properties; `None` for all.
    pub fields: Option<Arc<EventFields>>,
}

impl Serialize for ClientEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(fields) = &self.fields else { return self.serialize_whole(serializer) };
        match self.serialize_whole(serde_json::value::Serializer).map_err(S::Error::custom)? {
            Value::Object(whole) => fields.of(&whole).serialize(serializer),
            _ => unreachable!("an event is an object"),
        }
    }
}

impl ClientEvent {
    fn serialize_whole<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
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

/// A state event cut down to what somebody outside the room may see of it: `type`, `state_key`, `sender`, `content`; of the create
/// event also when it was made and its id, from which the room id can be checked (MSC4311).
#[derive(Clone, Debug)]
pub struct StrippedEvent(pub Arc<StoredEvent>);

impl Serialize for StrippedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let header = &self.0.header;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("content", self.0.content())?;
        if header.event_type == "m.room.create" {
            map.serialize_entry("event_id", &header.event_id)?;
            map.serialize_entry("origin_server_ts", &header.origin_server_ts)?;
        }
        map.serialize_entry("sender", &header.sender)?;
        map.serialize_entry("state_key", header.state_key.as_deref().unwrap_or_default())?;
        map.serialize_entry("type", &header.event_type)?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
