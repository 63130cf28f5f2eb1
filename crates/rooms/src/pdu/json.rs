//! An event as a JSON object, with the tolerance that room versions 1 to 5 need.
//!
//! Those versions accept numbers that canonical JSON doesn't know: floats, and integers beyond ±(2⁵³−1). Such a number is kept in
//! the object as a marked string and written back as a number, so that one type serves hashing, redaction and storage alike. A
//! float is written in its shortest form.

use std::collections::BTreeMap;

use primitives::canonical::{self, CanonicalError};
use ruma::canonical_json::{
    CanonicalJsonObject, CanonicalJsonValue, RedactingSerializer, redact_content_in_place, redact_in_place,
};
use serde::Deserialize;
use serde_json::value::RawValue;

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
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(json).map_err(CanonicalError::Syntax)?;
        Ok(Self { object: marked_fields(fields)?, has_marks: true })
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

fn marked_fields(fields: BTreeMap<String, &RawValue>) -> Result<CanonicalJsonObject, PduError> {
    fields.into_iter().map(|(key, value)| Ok((unmarked(key)?, marked(value)?))).collect()
}

/// A value whose numbers are read from their text: what a float's shortest form says must read as the same float again, or the event would have
/// another hash each time.
fn marked(value: &RawValue) -> Result<CanonicalJsonValue, PduError> {
    let text = value.get();
    Ok(match text.as_bytes().first() {
        Some(b'{') => CanonicalJsonValue::Object(marked_fields(read(text)?)?),
        Some(b'[') => {
            let items: Vec<&RawValue> = read(text)?;
            CanonicalJsonValue::Array(items.into_iter().map(marked).collect::<Result<_, _>>()?)
        }
        Some(b'"') => unmarked(read(text)?)?.into(),
        Some(b't' | b'f') => read::<bool>(text)?.into(),
        Some(b'n') => CanonicalJsonValue::Null,
        _ => marked_number(text)?,
    })
}

fn marked_number(text: &str) -> Result<CanonicalJsonValue, PduError> {
    let marked = |number: String| CanonicalJsonValue::String(format!("{MARK}{number}"));
    if let Ok(integer) = text.parse::<i64>() {
        return Ok(ruma::Int::new(integer).map_or_else(|| marked(integer.to_string()), CanonicalJsonValue::from));
    }
    if let Ok(integer) = text.parse::<u64>() {
        return Ok(marked(integer.to_string()));
    }
    let float = text.parse::<f64>().ok().and_then(serde_json::Number::from_f64);
    let beyond = || CanonicalError::Syntax(serde::de::Error::custom("number out of range"));
    Ok(marked(float.ok_or_else(beyond)?.to_string()))
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, PduError> {
    Ok(serde_json::from_str(text).map_err(CanonicalError::Syntax)?)
}
