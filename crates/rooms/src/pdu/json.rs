//! An event as a JSON object, with the tolerance that room versions 1 to 5 need.
//!
//! Those versions accept numbers that canonical JSON doesn't know: floats, and integers beyond ±(2⁵³−1). Such a number is kept in
//! the object as a marked string and written back as a number, so that one type serves hashing, redaction and storage alike. A
//! float is written in its shortest form.

use primitives::canonical::{self, CanonicalError};
use ruma::canonical_json::{
    CanonicalJsonObject, CanonicalJsonValue, RedactingSerializer, redact_content_in_place, redact_in_place,
};

use super::PduError;
use crate::RoomVersion;

/// Opens a string that stands for a number. A private-use code point that no event may then contain.
const MARK: char = '\u{F0001}';

/// The fields that no hash of identity and no signature covers.
const UNSIGNED_FIELDS: &[&str] = &["signatures", "unsigned"];

/// The fields that the content hash doesn't cover.
const UNHASHED_FIELDS: &[&str] = &["hashes", "signatures", "unsigned"];

/// An event's JSON object without `unsigned`.
#[derive(Clone, Debug)]
pub(super) struct EventJson {
    object: CanonicalJsonObject,
    has_marks: bool,
}

impl EventJson {
    /// Reads an event, strictly or tolerantly as its room version asks, and drops `unsigned`.
    pub(super) fn parse(version: RoomVersion, json: &[u8]) -> Result<Self, PduError> {
        let mut event = match canonical::parse_object(json) {
            Ok(object) => Self { object, has_marks: false },
            Err(CanonicalError::Syntax(_)) if !version.strict_json() => Self::parse_tolerantly(json)?,
            Err(error) => return Err(error.into()),
        };
        event.object.remove("unsigned");
        Ok(event)
    }

    fn parse_tolerantly(json: &[u8]) -> Result<Self, PduError> {
        let value: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(CanonicalError::Syntax)?;
        let object = value
            .into_iter()
            .map(|(key, value)| Ok((unmarked(key)?, marked(value)?)))
            .collect::<Result<_, PduError>>()?;
        Ok(Self { object, has_marks: true })
    }

    /// The object, for looking at strings and objects only: its numbers may be marked strings.
    pub(super) fn object(&self) -> &CanonicalJsonObject {
        &self.object
    }

    /// The signatures, by server and key id.
    pub(super) fn signatures_mut(&mut self) -> Option<&mut CanonicalJsonObject> {
        let signatures =
            self.object.entry("signatures".to_owned()).or_insert_with(|| CanonicalJsonObject::new().into());
        signatures.as_object_mut()
    }

    /// The canonical text of the whole.
    pub(super) fn text(&self) -> String {
        let text = serde_json::to_string(&self.object).expect("a canonical object serialises");
        self.unmark(text)
    }

    /// The text that the content hash is taken of.
    pub(super) fn hashed_text(&self) -> Result<String, PduError> {
        let text = RedactingSerializer::new().custom_redacted_root_fields(UNHASHED_FIELDS).serialize(&self.object);
        Ok(self.unmark(text.map_err(CanonicalError::Syntax)?))
    }

    /// The text that signatures and the reference hash are taken of: the redacted event without signatures.
    pub(super) fn signed_text(&self, version: RoomVersion) -> Result<String, PduError> {
        let serializer =
            RedactingSerializer::new().rules(version.redaction()).custom_redacted_root_fields(UNSIGNED_FIELDS);
        Ok(self.unmark(serializer.serialize(&self.object).map_err(CanonicalError::Syntax)?))
    }

    /// The event with everything removed that a redaction removes.
    pub(super) fn redacted(mut self, version: RoomVersion) -> Result<Self, PduError> {
        redact_in_place(&mut self.object, version.redaction(), None)
            .map_err(|error| PduError::Field { field: "type", problem: error.to_string() })?;
        Ok(self)
    }

    /// Writes marked strings as the numbers that they stand for.
    fn unmark(&self, text: String) -> String {
        if !self.has_marks {
            return text;
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        let opening = format!("\"{MARK}");
        while let Some(at) = rest.find(&opening) {
            out.push_str(&rest[..at]);
            let number = &rest[at + opening.len()..];
            let end = number.find('"').expect("a marked string is closed");
            out.push_str(&number[..end]);
            rest = &number[end + 1..];
        }
        out.push_str(rest);
        out
    }
}

/// The content of an event of that type after redaction.
pub(super) fn redacted_content(
    mut content: CanonicalJsonObject,
    event_type: &str,
    version: RoomVersion,
) -> CanonicalJsonObject {
    redact_content_in_place(&mut content, version.redaction(), event_type);
    content
}

fn unmarked(text: String) -> Result<String, PduError> {
    if text.contains(MARK) { Err(PduError::Character) } else { Ok(text) }
}

fn marked(value: serde_json::Value) -> Result<CanonicalJsonValue, PduError> {
    use serde_json::Value;
    Ok(match value {
        Value::Number(number) => match number.as_i64().and_then(ruma::Int::new) {
            Some(integer) => integer.into(),
            None => CanonicalJsonValue::String(format!("{MARK}{number}")),
        },
        Value::String(text) => unmarked(text)?.into(),
        Value::Array(items) => CanonicalJsonValue::Array(items.into_iter().map(marked).collect::<Result<_, _>>()?),
        Value::Object(map) => {
            let map = map.into_iter().map(|(key, value)| Ok((unmarked(key)?, marked(value)?)));
            CanonicalJsonValue::Object(map.collect::<Result<_, PduError>>()?)
        }
        Value::Bool(bool) => bool.into(),
        Value::Null => CanonicalJsonValue::Null,
    })
}
