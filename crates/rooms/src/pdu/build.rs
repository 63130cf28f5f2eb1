//! Building an own event: hash, sign and name it, serialising each part once.

use std::collections::BTreeMap;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use primitives::{ServerKey, UnixMillis};
use ruma::{
    EventId, OwnedEventId, RoomId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    signatures::KeyPair,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    MAX_DEPTH, Pdu, PduError,
    fields::{Fields, Limits},
    json::redacted_content,
    sign::event_id_of,
};
use crate::RoomVersion;

/// Top-level fields that belong to the event format, in any version: no extra field may bear such a name.
const RESERVED: &[&str] = &[
    "auth_events",
    "content",
    "depth",
    "event_id",
    "hashes",
    "membership",
    "origin",
    "origin_server_ts",
    "prev_events",
    "prev_state",
    "redacts",
    "room_id",
    "sender",
    "signatures",
    "state_key",
    "type",
    "unsigned",
];

/// Top-level fields that no redaction removes, among those that are written here.
const KEPT: &[&str] = &[
    "auth_events",
    "content",
    "depth",
    "event_id",
    "hashes",
    "origin_server_ts",
    "prev_events",
    "room_id",
    "sender",
    "state_key",
    "type",
];

/// What an own event is made of. `content` is written as it is, but for `redacts`.
#[derive(Clone, Debug)]
pub struct BuildInput<'a> {
    /// The room's version.
    pub version: RoomVersion,
    /// The room; `None` for the create event of version 12, whose id becomes the room's.
    pub room_id: Option<&'a RoomId>,
    /// Who sends it.
    pub sender: &'a UserId,
    /// Its type.
    pub event_type: &'a str,
    /// Its state key, if it is a state event.
    pub state_key: Option<&'a str>,
    /// Its content.
    pub content: CanonicalJsonObject,
    /// The event that it redacts; goes to the top level or into the content, as the version has it.
    pub redacts: Option<&'a EventId>,
    /// The events that it follows. At most [`super::MAX_PREV_EVENTS`].
    pub prev_events: &'a [OwnedEventId],
    /// The events that authorise it. At most [`super::MAX_AUTH_EVENTS`].
    pub auth_events: &'a [OwnedEventId],
    /// [`Pdu::reference_hash`] of each of those events. Looked at in versions 1 and 2 only.
    pub reference_hashes: Option<&'a BTreeMap<OwnedEventId, String>>,
    /// One more than the highest depth of the previous events; cut at [`MAX_DEPTH`].
    pub depth: u64,
    /// The time of making.
    pub origin_server_ts: UnixMillis,
    /// Further top-level fields, such as `msc4354_sticky`.
    pub extra: Vec<(String, CanonicalJsonValue)>,
}

/// The JSON texts of an event's top-level fields, by name.
type Parts = BTreeMap<String, String>;

/// Builds, hashes and signs an event, and computes its id. In versions 1 and 2, where the id is the server's choice, it is taken
/// from a hash of the event too. Events that break the size limits are refused.
pub fn build(input: BuildInput<'_>, key: &ServerKey, server_name: &ServerName) -> Result<Pdu, PduError> {
    let version = input.version;
    let event_type = input.event_type;
    let (mut parts, content) = parts_of(input)?;
    if version.has_server_event_ids() {
        let unique = URL_SAFE_NO_PAD.encode(&Sha256::digest(joined(&parts, |_| true, None))[..15]);
        parts.insert("event_id".to_owned(), text(&format!("${unique}:{server_name}")));
    }

    let content_hash = STANDARD_NO_PAD.encode(Sha256::digest(joined(&parts, |_| true, None)));
    parts.insert("hashes".to_owned(), text(&BTreeMap::from([("sha256", content_hash)])));

    let redacted = text(&redacted_content(content, event_type, version));
    let signed = joined(&parts, |name| KEPT.contains(&name), Some(&redacted));
    let signature = key.sign(signed.as_bytes()).base64();
    let signatures = BTreeMap::from([(server_name, BTreeMap::from([(key.id(), signature)]))]);
    parts.insert("signatures".to_owned(), text(&signatures));

    let event_id = if version.has_server_event_ids() { None } else { Some(event_id_of(version, &signed)?) };
    Ok(Pdu::new(Fields::read(version, event_id, joined(&parts, |_| true, None), Limits::Outbound)?))
}

/// The texts of all fields but `hashes`, `signatures` and an `event_id`; and the content, for its redacted form.
fn parts_of(input: BuildInput<'_>) -> Result<(Parts, CanonicalJsonObject), PduError> {
    let mut content = input.content;
    let mut parts = Parts::new();
    for (name, value) in &input.extra {
        if RESERVED.contains(&name.as_str()) {
            return Err(PduError::ReservedField(name.clone()));
        }
        parts.insert(name.clone(), text(value));
    }
    if let Some(redacts) = input.redacts {
        if input.version.redacts_in_content() {
            content.insert("redacts".to_owned(), redacts.as_str().into());
        } else {
            parts.insert("redacts".to_owned(), text(redacts));
        }
    }
    let mut put = |name: &str, text: String| parts.insert(name.to_owned(), text);
    put("auth_events", references(input.version, input.auth_events, input.reference_hashes)?);
    put("prev_events", references(input.version, input.prev_events, input.reference_hashes)?);
    put("content", text(&content));
    put("depth", input.depth.min(MAX_DEPTH).to_string());
    put("origin_server_ts", input.origin_server_ts.0.to_string());
    put("sender", text(input.sender));
    put("type", text(input.event_type));
    if let Some(room_id) = input.room_id {
        put("room_id", text(room_id));
    }
    if let Some(state_key) = input.state_key {
        put("state_key", text(state_key));
    }
    Ok((parts, content))
}

fn references(
    version: RoomVersion,
    ids: &[OwnedEventId],
    hashes: Option<&BTreeMap<OwnedEventId, String>>,
) -> Result<String, PduError> {
    if !version.references_are_pairs() {
        return Ok(text(ids));
    }
    let pair = |id: &OwnedEventId| {
        let hash =
            hashes.and_then(|hashes| hashes.get(id)).ok_or_else(|| PduError::MissingReferenceHash(id.clone()))?;
        Ok((id.clone(), BTreeMap::from([("sha256", hash.clone())])))
    };
    Ok(text(&ids.iter().map(pair).collect::<Result<Vec<_>, PduError>>()?))
}

/// The object of the parts whose name passes, in order; with another content, if one is given.
fn joined(parts: &Parts, keep: impl Fn(&str) -> bool, content: Option<&str>) -> String {
    let mut out =
        String::with_capacity(parts.iter().map(|(name, text)| name.len() + text.len() + 4).sum::<usize>() + 2);
    out.push('{');
    for (name, part) in parts.iter().filter(|(name, _)| keep(name)) {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&text(name));
        out.push(':');
        out.push_str(content.filter(|_| name == "content").unwrap_or(part));
    }
    out.push('}');
    out
}

fn text<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, lists and maps with string keys serialise")
}
