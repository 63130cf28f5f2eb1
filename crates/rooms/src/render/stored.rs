//! A stored event split into its fields once, so that serving it again copies text and parses nothing.

use std::{collections::BTreeMap, sync::OnceLock};

use primitives::{NodeId, Rank, Rix, StreamPosition, UnixMillis};
use ruma::canonical_json::{CanonicalJsonObject, redact};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::IgnoredAny};
use serde_json::value::RawValue;
use storage::{
    Positioned,
    schema::rooms::{EventHeader, EventKind, Verdict},
};

use crate::{
    Pdu, RoomVersion,
    filter::{EventFacts, EventFormat},
};

/// The stored text of an event is no event.
#[derive(Debug, thiserror::Error)]
#[error("event {event_id} cannot be read: {reason}")]
pub struct BadStoredEvent {
    /// The event.
    pub event_id: String,
    /// What is wrong with it.
    pub reason: String,
}

/// In which formats a field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Both,
    Client,
    Federation,
}

#[derive(Clone, Debug)]
struct Field {
    name: Box<str>,
    value: Box<RawValue>,
    stands_in: In,
}

/// An event as it is stored, with its header. Immutable.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its number in its room.
    pub rix: Rix,
    /// What is known of it.
    pub header: EventHeader,
    /// The position of the batch that stored it.
    pub position: StreamPosition,
    text: OnceLock<Split>,
    /// The event as it was when it was stored: split when somebody reads it.
    fresh: Option<Pdu>,
}

/// The text of an event, split into its fields.
#[derive(Clone, Debug)]
struct Split {
    fields: Vec<Field>,
    content: Box<RawValue>,
    has_url: bool,
    rel_type: Option<Box<str>>,
}

/// Fields that servers need and clients don't see.
const FEDERATION_FIELDS: [&str; 9] = [
    "auth_events",
    "depth",
    "hashes",
    "membership",
    "origin",
    "prev_events",
    "prev_state",
    "replaces_state",
    "signatures",
];
/// Fields that each response writes anew.
const WRITTEN_FIELDS: [&str; 3] = ["event_id", "room_id", "unsigned"];

/// What filters look at in the content.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Peek {
    #[serde(deserialize_with = "present")]
    url: bool,
    #[serde(rename = "m.relates_to", deserialize_with = "rel_type")]
    rel_type: Option<Box<str>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

fn rel_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<str>>, D::Error> {
    #[derive(Deserialize)]
    struct RelatesTo {
        rel_type: Box<str>,
    }
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str::<RelatesTo>(raw.get()).ok().map(|relates_to| relates_to.rel_type))
}

fn raw(text: String) -> Result<Box<RawValue>, serde_json::Error> {
    RawValue::from_string(text)
}

impl StoredEvent {
    /// Splits the stored text of an event: canonical JSON without `unsigned`.
    pub fn new(
        version: RoomVersion,
        rix: Rix,
        header: Positioned<EventHeader>,
        json: &[u8],
    ) -> Result<Self, BadStoredEvent> {
        let Positioned { position, value: header } = header;
        let split = Split::new(version, &header.event_type, json);
        let split =
            split.map_err(|error| BadStoredEvent { event_id: header.event_id.clone(), reason: error.to_string() })?;
        Ok(Self { rix, header, position, text: OnceLock::from(split), fresh: None })
    }

    /// An event that has just been stored. Costs its writer next to nothing.
    pub fn fresh(rix: Rix, header: Positioned<EventHeader>, pdu: Pdu) -> Self {
        let Positioned { position, value: header } = header;
        Self { rix, header, position, text: OnceLock::new(), fresh: Some(pdu) }
    }

    /// An event that is part of no room here: nothing is known of its place, and it has no number.
    pub fn apart(pdu: Pdu) -> Self {
        let header = EventHeader {
            event_id: pdu.event_id().to_string(),
            origin_server_ts: pdu.origin_server_ts().0,
            sender: pdu.sender().to_string(),
            event_type: pdu.kind().to_owned(),
            state_key: pdu.state_key().map(ToOwned::to_owned),
            membership: pdu.membership(),
            kind: EventKind::Outlier,
            verdict: Verdict::Accepted,
            rank: Rank::default(),
            depth: pdu.depth(),
            root_before: NodeId::default(),
            root_after: NodeId::default(),
            auth: Vec::new(),
            prev: Vec::new(),
        };
        Self::fresh(Rix(0), Positioned { position: StreamPosition::ZERO, value: header }, pdu)
    }

    fn split(&self) -> &Split {
        self.text.get_or_init(|| {
            let fresh = self.fresh.as_ref();
            let split = fresh.map(|pdu| Split::new(pdu.version(), pdu.kind(), pdu.json().as_bytes()));
            split.and_then(Result::ok).expect("an event that was stored is JSON")
        })
    }

    /// The event as a redaction leaves it. Only what its room version protects remains.
    pub fn redacted(&self, version: RoomVersion) -> Result<Self, BadStoredEvent> {
        let bad = |reason: String| BadStoredEvent { event_id: self.header.event_id.clone(), reason };
        let whole: BTreeMap<&str, &RawValue> = self.fields(EventFormat::Federation).collect();
        let text = serde_json::to_vec(&whole).map_err(|error| bad(error.to_string()))?;
        let object: CanonicalJsonObject = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let pruned = redact(object, version.redaction(), None).map_err(|error| bad(error.to_string()))?;
        let header = Positioned { position: self.position, value: self.header.clone() };
        Self::new(version, self.rix, header, &primitives::canonical::to_bytes(&pruned))
    }

    /// The content, a JSON object.
    pub fn content(&self) -> &RawValue {
        &self.split().content
    }

    /// The content read as some type; `None` if it is not of that form.
    pub fn content_as<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.content().get()).ok()
    }

    /// What filters look at.
    pub fn facts(&self) -> EventFacts<'_> {
        EventFacts {
            event_type: &self.header.event_type,
            sender: &self.header.sender,
            has_url: self.split().has_url,
            rel_type: self.split().rel_type.as_deref(),
        }
    }

    /// Milliseconds from the time that the event claims to now.
    pub fn age(&self, now: UnixMillis) -> i64 {
        let millis = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        millis(now.0).saturating_sub(millis(self.header.origin_server_ts))
    }

    /// The event's own fields in a format: all but `event_id`, `room_id` and `unsigned`.
    pub fn fields(&self, format: EventFormat) -> impl Iterator<Item = (&str, &RawValue)> {
        let left_out = match format {
            EventFormat::Client => In::Federation,
            EventFormat::Federation => In::Client,
        };
        self.split()
            .fields
            .iter()
            .filter(move |field| field.stands_in != left_out)
            .map(|field| (&*field.name, &*field.value))
    }
}

impl Split {
    fn new(version: RoomVersion, event_type: &str, json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut map: BTreeMap<Box<str>, Box<RawValue>> = serde_json::from_slice(json)?;
        let content = match map.remove("content") {
            Some(content) => content,
            None => raw("{}".to_owned())?,
        };
        let peek = serde_json::from_str::<Peek>(content.get()).unwrap_or_default();
        let mut fields = Vec::with_capacity(map.len() + 1);
        if event_type == "m.room.redaction" {
            fields.extend(redacts_in_both_places(version, &map, &content)?);
        }
        if fields.iter().all(|field: &Field| &*field.name != "content") {
            fields.push(Field { name: "content".into(), value: content.clone(), stands_in: In::Both });
        }
        for (name, value) in map.into_iter().filter(|(name, _)| !WRITTEN_FIELDS.contains(&&**name)) {
            let stands_in = if FEDERATION_FIELDS.contains(&&*name) { In::Federation } else { In::Both };
            fields.push(Field { name, value, stands_in });
        }
        Ok(Self { fields, content, has_url: peek.url, rel_type: peek.rel_type })
    }
}

/// Clients look for a redaction's target at the top level or in the content: each gets it where it looks, whatever the room version
/// (specification, `m.room.redaction`).
fn redacts_in_both_places(
    version: RoomVersion,
    map: &BTreeMap<Box<str>, Box<RawValue>>,
    content: &RawValue,
) -> Result<Vec<Field>, serde_json::Error> {
    let mut inner: BTreeMap<&str, &RawValue> = serde_json::from_str(content.get())?;
    if version.redacts_in_content() {
        let target = inner.get("redacts").filter(|_| !map.contains_key("redacts"));
        let field =
            target.map(|target| Field { name: "redacts".into(), value: (*target).to_owned(), stands_in: In::Client });
        return Ok(field.into_iter().collect());
    }
    let Some(target) = map.get("redacts").filter(|_| !inner.contains_key("redacts")) else { return Ok(vec![]) };
    inner.insert("redacts", target);
    let shown = raw(serde_json::to_string(&inner)?)?;
    let field = |value, stands_in| Field { name: "content".into(), value, stands_in };
    Ok(vec![field(content.to_owned(), In::Federation), field(shown, In::Client)])
}
