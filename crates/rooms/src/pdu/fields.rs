//! The typed fields of an event, read from its canonical text, and their limits.

use std::borrow::Cow;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, events::TimelineEventType,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;

use super::PduError;
use crate::RoomVersion;

/// The largest event in bytes: canonical JSON with signatures, without `unsigned` (specification, "Size limits").
pub const MAX_PDU_BYTES: usize = 65_536;
/// The most characters or bytes of an id, a type or a state key.
pub const MAX_FIELD: usize = 255;
/// The most `auth_events` of an event.
pub const MAX_AUTH_EVENTS: usize = 10;
/// The most `prev_events` of an event.
pub const MAX_PREV_EVENTS: usize = 20;
/// The largest `depth`: 2⁵³−1. Larger ones, which versions 1 to 5 allow, count as this.
pub const MAX_DEPTH: u64 = (1 << 53) - 1;

/// Which limits apply to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    /// Made here: fields are at most 255 bytes.
    Outbound,
    /// Received: before version 11, fields are at most 255 code points.
    Inbound,
    /// Read from the store: checked when it came.
    None,
}

/// Everything that is known of an event. Shared by the clones of its [`super::Pdu`].
#[derive(Clone, Debug)]
pub(super) struct Fields {
    pub(super) version: RoomVersion,
    pub(super) event_id: OwnedEventId,
    pub(super) room_id: OwnedRoomId,
    pub(super) declares_room_id: bool,
    pub(super) sender: OwnedUserId,
    pub(super) kind: Box<str>,
    pub(super) event_type: TimelineEventType,
    pub(super) state_key: Option<Box<str>>,
    pub(super) content: Box<RawValue>,
    pub(super) prev_events: Vec<OwnedEventId>,
    pub(super) auth_events: Vec<OwnedEventId>,
    pub(super) depth: u64,
    pub(super) origin_server_ts: MilliSecondsSinceUnixEpoch,
    pub(super) redacts: Option<OwnedEventId>,
    pub(super) json: Box<str>,
}

/// The fields as they stand in the text.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    auth_events: &'a RawValue,
    #[serde(borrow)]
    content: &'a RawValue,
    depth: u64,
    #[serde(default, borrow, deserialize_with = "text_if_present")]
    event_id: Option<Cow<'a, str>>,
    origin_server_ts: u64,
    #[serde(borrow)]
    prev_events: &'a RawValue,
    #[serde(default, borrow)]
    redacts: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "text_if_present")]
    room_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "text_if_present")]
    state_key: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// A field that may be absent but, if it is there, is a string: `null` is an error.
fn text_if_present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Text::deserialize(deserializer).map(|text| Some(text.0))
}

impl Fields {
    /// Reads the fields of an event whose id is known, or stands in the event itself (versions 1 and 2).
    pub(super) fn read(
        version: RoomVersion,
        event_id: Option<OwnedEventId>,
        json: String,
        limits: Limits,
    ) -> Result<Self, PduError> {
        if limits != Limits::None && json.len() > MAX_PDU_BYTES {
            return Err(PduError::TooLarge { bytes: json.len() });
        }
        let wire: Wire<'_> = serde_json::from_str(&json).map_err(PduError::Shape)?;
        wire.check_lengths(version, limits)?;
        if !wire.content.get().starts_with('{') {
            return Err(PduError::Field { field: "content", problem: "not an object".to_owned() });
        }
        let event_id = match event_id {
            Some(event_id) => event_id,
            None => id("event_id", wire.event_id.as_deref().unwrap_or_default())?,
        };
        let (room_id, declares_room_id) = wire.room_id(version, &event_id)?;
        let auth_events = references("auth_events", version, wire.auth_events, MAX_AUTH_EVENTS)?;
        let ts = UInt::new(wire.origin_server_ts).unwrap_or(UInt::MAX);
        let fields = Self {
            version,
            room_id,
            declares_room_id,
            sender: id("sender", &wire.sender)?,
            event_type: TimelineEventType::from(&*wire.kind),
            kind: wire.kind.as_ref().into(),
            state_key: wire.state_key.as_deref().map(Into::into),
            content: wire.content.to_owned(),
            prev_events: references("prev_events", version, wire.prev_events, MAX_PREV_EVENTS)?,
            auth_events,
            depth: wire.depth.min(MAX_DEPTH),
            origin_server_ts: MilliSecondsSinceUnixEpoch(ts),
            redacts: wire.redacts(version),
            event_id,
            json: Box::default(),
        };
        Ok(Self { json: json.into_boxed_str(), ..fields })
    }
}

impl Wire<'_> {
    fn check_lengths(&self, version: RoomVersion, limits: Limits) -> Result<(), PduError> {
        if limits == Limits::None {
            return Ok(());
        }
        let by_bytes = limits == Limits::Outbound || version.strict_field_bytes();
        let fields = [
            ("type", Some(&self.kind)),
            ("state_key", self.state_key.as_ref()),
            ("sender", Some(&self.sender)),
            ("room_id", self.room_id.as_ref()),
            ("event_id", self.event_id.as_ref()),
        ];
        for (field, value) in fields {
            let Some(value) = value else { continue };
            let length = if by_bytes { value.len() } else { value.chars().count() };
            if length > MAX_FIELD {
                return Err(PduError::FieldTooLong { field });
            }
        }
        Ok(())
    }

    /// The room's id, and whether the event itself names it. A create event of version 12 names no room: its id is the room's.
    fn room_id(&self, version: RoomVersion, event_id: &OwnedEventId) -> Result<(OwnedRoomId, bool), PduError> {
        if version.room_id_is_create_hash() && self.kind == "m.room.create" {
            let room_id =
                RoomId::new_v2(&event_id.as_str()[1..]).map_err(|source| PduError::Id { field: "event_id", source })?;
            return Ok((room_id, self.room_id.is_some()));
        }
        let Some(room_id) = &self.room_id else {
            return Err(PduError::Field { field: "room_id", problem: "missing".to_owned() });
        };
        Ok((id("room_id", room_id)?, true))
    }

    /// The target of a redaction, if it is one and names a target.
    fn redacts(&self, version: RoomVersion) -> Option<OwnedEventId> {
        #[derive(Deserialize)]
        struct Content {
            redacts: OwnedEventId,
        }
        if self.kind != "m.room.redaction" {
            return None;
        }
        if version.redacts_in_content() {
            return serde_json::from_str::<Content>(self.content.get()).ok().map(|content| content.redacts);
        }
        serde_json::from_str(self.redacts?.get()).ok()
    }
}

fn id<T>(field: &'static str, text: &str) -> Result<T, PduError>
where
    T: for<'a> TryFrom<&'a str, Error = ruma::IdParseError>,
{
    T::try_from(text).map_err(|source| PduError::Id { field, source })
}

/// Reads a list of references to events: plain ids, or pairs of id and hashes.
fn references(
    field: &'static str,
    version: RoomVersion,
    list: &RawValue,
    most: usize,
) -> Result<Vec<OwnedEventId>, PduError> {
    let ids = if version.references_are_pairs() {
        let pairs: Vec<(OwnedEventId, IgnoredAny)> = serde_json::from_str(list.get()).map_err(PduError::Shape)?;
        pairs.into_iter().map(|pair| pair.0).collect()
    } else {
        serde_json::from_str::<Vec<OwnedEventId>>(list.get()).map_err(PduError::Shape)?
    };
    if ids.len() > most { Err(PduError::TooManyReferences { field, most }) } else { Ok(ids) }
}
