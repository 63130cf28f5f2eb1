//! Events as servers exchange them (PDUs): parsing, building, hashing, signing, redacting, and their size limits.
//!
//! A [`Pdu`] is immutable and cheap to clone. Its text, [`Pdu::json`], is what is stored and sent: canonical JSON with signatures
//! and without `unsigned`. From room version 3 on the text holds no `event_id`.

mod build;
mod fields;
mod json;
mod parse;
mod sign;

use std::sync::Arc;

use primitives::{UnixMillis, canonical::CanonicalError};
use ruma::{
    EventId, IdParseError, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UserId, events::TimelineEventType,
    signatures::VerificationError, state_res::Event,
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use storage::schema::rooms::Membership;

pub use build::{BuildInput, build};
pub use fields::{MAX_AUTH_EVENTS, MAX_DEPTH, MAX_FIELD, MAX_PDU_BYTES, MAX_PREV_EVENTS};
pub(crate) use sign::Opened;
pub use sign::RequiredSignature;

use crate::RoomVersion;
use fields::{Fields, Limits};

/// Why bytes are no event of their room version, or an event can't be built.
#[derive(Debug, thiserror::Error)]
pub enum PduError {
    /// Not JSON, or not the JSON that the room version accepts.
    #[error(transparent)]
    Json(#[from] CanonicalError),
    /// A field is missing or of the wrong type.
    #[error("not of the form of an event: {0}")]
    Shape(#[source] serde_json::Error),
    /// A field doesn't hold what it must.
    #[error("field `{field}`: {problem}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A field is no id of its kind.
    #[error("field `{field}`: {source}")]
    Id {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        source: IdParseError,
    },
    /// The whole event is larger than [`MAX_PDU_BYTES`].
    #[error("the event has {bytes} bytes, more than {MAX_PDU_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An id, the type or the state key is longer than [`MAX_FIELD`].
    #[error("field `{field}` is longer than {MAX_FIELD}")]
    FieldTooLong {
        /// The field's name.
        field: &'static str,
    },
    /// More `prev_events` or `auth_events` than allowed.
    #[error("field `{field}` names more than {most} events")]
    TooManyReferences {
        /// The field's name.
        field: &'static str,
        /// How many it may name.
        most: usize,
    },
    /// The event holds a code point that is reserved here for numbers outside canonical JSON (versions 1 to 5 only).
    #[error("the event holds a reserved private-use character")]
    Character,
    /// In versions 1 and 2 a reference needs the hash of the event that it names.
    #[error("no reference hash of {0} was given")]
    MissingReferenceHash(OwnedEventId),
    /// A top-level field was given that the event format itself uses.
    #[error("field `{0}` is part of the event format")]
    ReservedField(String),
}

impl PduError {
    /// Whether the event was only too large (`M_TOO_LARGE`) rather than malformed (`M_BAD_JSON`).
    pub fn is_size(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::FieldTooLong { .. })
    }
}

/// An event of any room version. Immutable; a clone shares its contents.
#[derive(Clone, Debug)]
pub struct Pdu {
    fields: Arc<Fields>,
    rejected: bool,
}

impl Pdu {
    /// Reads an event that another server sent: JSON strict or tolerant as the version asks, limits of received events, `unsigned`
    /// dropped, id computed. Says nothing of hashes and signatures: see [`Pdu::content_hash_matches`] and
    /// [`Pdu::verify_signatures`].
    pub fn parse(version: RoomVersion, json: &[u8]) -> Result<Self, PduError> {
        parse::parse(version, json)
    }

    /// Reads an event from the text that [`Pdu::json`] gave, without checking it again.
    pub fn from_stored(version: RoomVersion, event_id: OwnedEventId, json: String) -> Result<Self, PduError> {
        Ok(Self::new(Fields::read(version, Some(event_id), json, Limits::None)?))
    }

    fn new(fields: Fields) -> Self {
        Self { fields: Arc::new(fields), rejected: false }
    }

    /// The same event with the verdict on it: a rejected event may never authorise another.
    #[must_use]
    pub fn with_rejected(self, rejected: bool) -> Self {
        Self { rejected, ..self }
    }

    /// Whether the event was rejected.
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }

    /// The version of the event's room.
    pub fn version(&self) -> RoomVersion {
        self.fields.version
    }

    /// The event's id.
    pub fn event_id(&self) -> &OwnedEventId {
        &self.fields.event_id
    }

    /// The room's id; for a create event of version 12, derived from the event's.
    pub fn room_id(&self) -> &RoomId {
        &self.fields.room_id
    }

    /// Who sent it.
    pub fn sender(&self) -> &UserId {
        &self.fields.sender
    }

    /// The type, as text.
    pub fn kind(&self) -> &str {
        &self.fields.kind
    }

    /// The type, as ruma's enum.
    pub fn event_type(&self) -> &TimelineEventType {
        &self.fields.event_type
    }

    /// The state key; `None` if this is no state event.
    pub fn state_key(&self) -> Option<&str> {
        self.fields.state_key.as_deref()
    }

    /// Whether this is the state event of that type and state key.
    pub fn is_state(&self, kind: &str, state_key: &str) -> bool {
        self.kind() == kind && self.state_key() == Some(state_key)
    }

    /// The content, a JSON object.
    pub fn content(&self) -> &RawValue {
        &self.fields.content
    }

    /// The content read as some type.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.fields.content.get())
    }

    /// The membership that a member event sets; `None` for other events and for memberships that don't exist.
    pub fn membership(&self) -> Option<Membership> {
        #[derive(serde::Deserialize)]
        struct Content {
            membership: String,
        }
        if self.kind() != "m.room.member" {
            return None;
        }
        self.content_as::<Content>().ok().and_then(|content| Membership::parse(&content.membership))
    }

    /// The events that it follows, as the event lists them.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.fields.prev_events
    }

    /// The events that authorise it, as the event lists them.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.fields.auth_events
    }

    /// The depth, at most [`MAX_DEPTH`]. Remote data: orders nothing but room version 1's resolution.
    pub fn depth(&self) -> u64 {
        self.fields.depth
    }

    /// When its server says that it was made.
    pub fn origin_server_ts(&self) -> UnixMillis {
        UnixMillis(self.fields.origin_server_ts.0.into())
    }

    /// The event that it redacts, if it is a redaction that names one.
    pub fn redacts(&self) -> Option<&OwnedEventId> {
        self.fields.redacts.as_ref()
    }

    /// The canonical JSON of the event in the federation format, with signatures, without `unsigned`.
    pub fn json(&self) -> &str {
        &self.fields.json
    }

    /// The same event as if it stood under another state key, for rules that only look at it.
    pub(crate) fn under_state_key(&self, state_key: &str) -> Self {
        let fields = Fields { state_key: Some(state_key.into()), ..Fields::clone(&self.fields) };
        Self { fields: Arc::new(fields), rejected: self.rejected }
    }

    /// The create event's id in version 12, which the room id spells.
    pub fn create_event_id(&self) -> Option<OwnedEventId> {
        self.version().room_id_is_create_hash().then(|| create_event_id(self.room_id())).flatten()
    }
}

/// The id of the create event that a room id of version 12 spells.
pub fn create_event_id(room_id: &RoomId) -> Option<OwnedEventId> {
    EventId::new_v2_or_v3(room_id.strip_sigil()).ok()
}

/// Why the signatures of an event don't suffice.
pub type SignatureError = VerificationError;

impl Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.fields.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.fields.declares_room_id.then_some(&*self.fields.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.fields.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.fields.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.fields.event_type
    }

    fn content(&self) -> &RawValue {
        &self.fields.content
    }

    fn state_key(&self) -> Option<&str> {
        self.fields.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.fields.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.fields.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.fields.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}

#[cfg(test)]
mod tests;
