//! Filters: which events a client wants (specification, client-server API, "Filtering"). Pure; parsed strictly, evaluated leniently.

mod fields;
mod pattern;

use std::{fmt, marker::PhantomData, sync::Arc};

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Deserializer, de};
use storage::schema::rooms::RelationRow;

pub use fields::EventFields;
use pattern::Pattern;

/// The events in a timeline or page if the client doesn't say how many.
pub const DEFAULT_LIMIT: usize = 10;
/// The most events in a timeline or page, whatever the client asks for.
pub const MAX_LIMIT: usize = 1_000;

/// JSON that is no filter: not an object, a field of the wrong type, or an id that is none.
#[derive(Debug, thiserror::Error)]
#[error("not a filter: {0}")]
pub struct BadFilter(#[from] serde_json::Error);

/// What a filter looks at in an event.
#[derive(Clone, Copy, Debug)]
pub struct EventFacts<'a> {
    /// The event type.
    pub event_type: &'a str,
    /// The sender's user id.
    pub sender: &'a str,
    /// Whether `content` has a key `url`.
    pub has_url: bool,
    /// The `rel_type` of `m.relates_to`, if the event relates to another.
    pub rel_type: Option<&'a str>,
}

/// A filter of a whole sync.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// How events look.
    pub event_format: EventFormat,
    /// Which properties of the events of rooms the client wants; all, if it doesn't say.
    pub event_fields: Option<Arc<EventFields>>,
    /// Which presence updates.
    #[serde(deserialize_with = "object")]
    pub presence: EventFilter,
    /// Which global account data.
    #[serde(deserialize_with = "object")]
    pub account_data: EventFilter,
    /// Which rooms and what of them.
    #[serde(deserialize_with = "object")]
    pub room: RoomFilter,
}

/// How events look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventFormat {
    /// As the client-server API describes them.
    #[default]
    Client,
    /// As servers exchange them.
    Federation,
}

/// Which rooms and what of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoomFilter {
    /// Only these rooms.
    pub rooms: Option<Vec<OwnedRoomId>>,
    /// Not these rooms, even if they are among `rooms`.
    pub not_rooms: Vec<OwnedRoomId>,
    /// Whether an initial or full sync shows rooms that the user has left.
    pub include_leave: bool,
    /// Which events of the timeline.
    #[serde(deserialize_with = "object")]
    pub timeline: RoomEventFilter,
    /// Which events of the state.
    #[serde(deserialize_with = "object")]
    pub state: RoomEventFilter,
    /// Which typing notifications and receipts.
    #[serde(deserialize_with = "object")]
    pub ephemeral: RoomEventFilter,
    /// Which of the user's data on the room.
    #[serde(deserialize_with = "object")]
    pub account_data: RoomEventFilter,
}

/// Which events outside rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// At most this many.
    pub limit: Option<u64>,
    types: Option<Vec<Pattern>>,
    not_types: Vec<Pattern>,
    senders: Option<Vec<OwnedUserId>>,
    not_senders: Vec<OwnedUserId>,
}

/// Which events of rooms.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoomEventFilter {
    /// At most this many.
    pub limit: Option<u64>,
    types: Option<Vec<Pattern>>,
    not_types: Vec<Pattern>,
    senders: Option<Vec<OwnedUserId>>,
    not_senders: Vec<OwnedUserId>,
    rooms: Option<Vec<OwnedRoomId>>,
    not_rooms: Vec<OwnedRoomId>,
    contains_url: Option<bool>,
    /// Members are sent only as far as they are needed to show the events.
    pub lazy_load_members: bool,
    /// Members are sent again even if the client has them.
    pub include_redundant_members: bool,
    /// Counts are given by thread.
    #[serde(alias = "org.matrix.msc3773.unread_thread_notifications")]
    pub unread_thread_notifications: bool,
    #[serde(alias = "io.element.relation_senders")]
    related_by_senders: Option<Vec<OwnedUserId>>,
    #[serde(alias = "io.element.relation_types")]
    related_by_rel_types: Option<Vec<String>>,
    #[serde(alias = "org.matrix.msc3874.rel_types")]
    rel_types: Option<Vec<String>>,
    #[serde(alias = "org.matrix.msc3874.not_rel_types")]
    not_rel_types: Vec<String>,
}

/// A filter that is an object: derived types also read from arrays, which are no filters.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData)).map(Self)
    }
}

fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|object| object.0)
}

fn parse<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, BadFilter> {
    Ok(serde_json::from_str::<Object<T>>(json)?.0)
}

fn selects<T: AsRef<str>>(only: Option<&[T]>, not: &[T], value: &str) -> bool {
    only.is_none_or(|only| only.iter().any(|one| one.as_ref() == value)) && !not.iter().any(|one| one.as_ref() == value)
}

fn selects_type(only: Option<&[Pattern]>, not: &[Pattern], value: &str) -> bool {
    only.is_none_or(|only| only.iter().any(|one| one.matches(value))) && !not.iter().any(|one| one.matches(value))
}

impl Filter {
    /// Reads a filter as `POST /user/{userId}/filter` and the `filter` parameter of /sync take it.
    pub fn parse(json: &str) -> Result<Self, BadFilter> {
        parse(json)
    }
}

impl RoomFilter {
    /// Whether anything of this room is wanted.
    pub fn selects(&self, room: &RoomId) -> bool {
        selects(self.rooms.as_deref().map(ids).as_deref(), &ids(&self.not_rooms), room.as_str())
    }
}

fn ids(rooms: &[OwnedRoomId]) -> Vec<&str> {
    rooms.iter().map(|room| room.as_str()).collect()
}

impl EventFilter {
    /// Whether an event of this type and sender is wanted.
    pub fn selects(&self, event_type: &str, sender: Option<&str>) -> bool {
        let sender_selected = match sender {
            Some(sender) => selects(self.senders.as_deref(), &self.not_senders, sender),
            None => self.senders.is_none(),
        };
        sender_selected && selects_type(self.types.as_deref(), &self.not_types, event_type)
    }
}

impl RoomEventFilter {
    /// Reads a filter as the `filter` parameter of /messages and /context takes it.
    pub fn parse(json: &str) -> Result<Self, BadFilter> {
        parse(json)
    }

    /// How many events the client gets at most.
    pub fn limit(&self) -> usize {
        self.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT))
    }

    /// Whether events of this room are wanted.
    pub fn selects_room(&self, room: &RoomId) -> bool {
        selects(self.rooms.as_deref().map(ids).as_deref(), &ids(&self.not_rooms), room.as_str())
    }

    /// Whether an event is wanted, as far as the event itself tells; see [`Self::needs_relations`].
    pub fn selects(&self, event: &EventFacts<'_>) -> bool {
        self.contains_url.is_none_or(|wanted| wanted == event.has_url)
            && selects_type(self.types.as_deref(), &self.not_types, event.event_type)
            && selects(self.senders.as_deref(), &self.not_senders, event.sender)
            && self.selects_relation(event.rel_type)
    }

    fn selects_relation(&self, rel_type: Option<&str>) -> bool {
        let listed = |list: &[String]| rel_type.is_some_and(|rel_type| list.iter().any(|one| one == rel_type));
        self.rel_types.as_deref().is_none_or(listed) && !listed(&self.not_rel_types)
    }

    /// Whether the events that relate to an event decide too: [`Self::selects_related`].
    pub fn needs_relations(&self) -> bool {
        self.related_by_senders.is_some() || self.related_by_rel_types.is_some()
    }

    /// Whether an event is wanted for one of the events that relate to it. Both conditions must hold for the same one.
    pub fn selects_related(&self, related: &[RelationRow]) -> bool {
        let wanted = |row: &RelationRow| {
            self.related_by_senders.as_ref().is_none_or(|list| list.iter().any(|one| one.as_str() == row.sender))
                && self.related_by_rel_types.as_ref().is_none_or(|list| list.contains(&row.rel_type))
        };
        !self.needs_relations() || related.iter().any(wanted)
    }

    /// Whether what is no event of a room but told with it is wanted: typing notifications, receipts, account data. They have no sender.
    pub fn selects_ephemeral(&self, room: &RoomId, event_type: &str) -> bool {
        self.senders.is_none()
            && self.selects_room(room)
            && selects_type(self.types.as_deref(), &self.not_types, event_type)
    }

    /// Whether every event is wanted: nothing needs to be looked at.
    pub fn selects_everything(&self) -> bool {
        self.types.is_none()
            && self.not_types.is_empty()
            && self.senders.is_none()
            && self.not_senders.is_empty()
            && self.contains_url.is_none()
            && self.rel_types.is_none()
            && self.not_rel_types.is_empty()
            && !self.needs_relations()
    }
}

#[cfg(test)]
mod tests;
