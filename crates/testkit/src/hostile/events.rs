//! Events of the peer's making.

use primitives::{NodeId, Rank, ServerKey, canonical};
use rooms::{Pdu, RoomVersion, auth::auth_types_for, pdu::MAX_DEPTH};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, ServerName, UserId,
    canonical_json::CanonicalJsonObject,
    events::TimelineEventType,
    signatures::{hash_and_sign_event, reference_hash},
};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::Hostile;
use storage::schema::rooms::{EventHeader, EventKind, Verdict};

use crate::{
    held::{Held, HeldEvent},
    world::Server,
};

/// What an event is to say.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who sends it.
    pub sender: String,
    /// Its type.
    pub kind: String,
    /// Its state key.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Value,
}

impl Draft {
    /// A state event.
    pub fn state(sender: impl Into<String>, kind: &str, state_key: &str, content: Value) -> Self {
        Self { sender: sender.into(), kind: kind.to_owned(), state_key: Some(state_key.to_owned()), content }
    }

    /// A change of membership.
    pub fn member(sender: impl Into<String>, target: &str, membership: &str) -> Self {
        Self::state(sender, "m.room.member", target, json!({ "membership": membership }))
    }

    /// A message.
    pub fn message(sender: impl Into<String>, body: &str) -> Self {
        let content = json!({ "msgtype": "m.text", "body": body });
        Self { sender: sender.into(), kind: "m.room.message".to_owned(), state_key: None, content }
    }
}

/// An event as the peer sends it.
#[derive(Clone, Debug)]
pub struct Forged {
    /// Its JSON.
    pub json: Value,
    /// The id that it has, if it is read at all.
    pub event_id: OwnedEventId,
}

/// The JSON of an event on top of a room as it stands, as it should be: `auth_events` and `prev_events` fit. Not hashed and not signed yet, so that it can be
/// spoiled before that.
///
/// # Panics
/// If the sender is no user id.
pub fn raw_draft(room: &Held, now: u64, draft: &Draft) -> Value {
    let depth = room.extremities.iter().map(|id| room.event(id).pdu.depth()).max().unwrap_or_default();
    let depth = (depth + 1).min(MAX_DEPTH);
    let mut event = json!({
        "type": draft.kind, "sender": draft.sender, "content": draft.content, "room_id": room.room_id,
        "origin_server_ts": now, "depth": depth,
        "prev_events": references(room, &room.extremities), "auth_events": references(room, &auth_events(room, draft)),
    });
    if let Some(state_key) = &draft.state_key {
        event["state_key"] = state_key.as_str().into();
    }
    event
}

/// References to events, as the room's version writes them.
pub fn references(room: &Held, ids: &[OwnedEventId]) -> Value {
    if !room.version.references_are_pairs() {
        return json!(ids);
    }
    let hash = |id: &OwnedEventId| room.event(id).pdu.reference_hash().expect("hashed");
    ids.iter().map(|id| json!([id, { "sha256": hash(id) }])).collect()
}

/// The events of the current state that should authorise an event.
fn auth_events(room: &Held, draft: &Draft) -> Vec<OwnedEventId> {
    let sender = <&UserId>::try_from(draft.sender.as_str()).expect("a user id");
    let content = to_raw_value(&draft.content).expect("JSON");
    let kind = TimelineEventType::from(draft.kind.as_str());
    let keys = auth_types_for(room.version, &kind, sender, draft.state_key.as_deref(), &content).unwrap_or_default();
    let found = keys.into_iter().filter_map(|(kind, key)| room.state_event(kind, &key));
    found.map(|pdu| pdu.event_id().clone()).collect()
}

/// Hashes and signs an event in the name of a server, whatever the event says.
///
/// # Panics
/// If the JSON can't be hashed at all.
pub fn forge(version: RoomVersion, mut event: Value, server: &ServerName, key: &ServerKey) -> Forged {
    if version.has_server_event_ids() && event.get("event_id").is_none() {
        let digest = canonical::to_canonical(&event).map(|event| format!("{event:?}").len()).unwrap_or_default();
        let ts = event["origin_server_ts"].as_u64().unwrap_or_default();
        event["event_id"] = format!("$forged{digest}x{ts}:{server}").into();
    }
    let mut object: CanonicalJsonObject = serde_json::from_value(event).expect("canonical JSON");
    hash_and_sign_event(server.as_str(), key, &mut object, version.redaction()).expect("signed");
    let event_id = match object.get("event_id").and_then(|id| id.as_str()) {
        Some(id) if version.has_server_event_ids() => id.to_owned(),
        _ => format!("${}", reference_hash(&object, version.rules()).expect("hashed")),
    };
    let event_id = OwnedEventId::try_from(event_id).expect("an event id");
    Forged { json: serde_json::to_value(object).expect("JSON"), event_id }
}

impl Forged {
    /// The event with another field, though hash and signature stay.
    #[must_use]
    pub fn tampered(mut self, field: &str, value: Value) -> Self {
        self.json[field] = value;
        self
    }
}

impl Held {
    /// A room without events yet, as a peer has it that makes a room of its own.
    pub fn nothing(room_id: OwnedRoomId, version: RoomVersion) -> Self {
        let (events, numbers, state, extremities, arrived) = Default::default();
        Self { room_id, version, events, numbers, state, extremities, arrived, gaps: 0 }
    }

    /// Adds an event on top, as if every rule allowed it.
    ///
    /// # Panics
    /// If it is no event.
    pub fn add(&mut self, event: &Forged) {
        let pdu = Pdu::parse(self.version, event.json.to_string().as_bytes()).expect("an event");
        let header = EventHeader {
            event_id: event.event_id.to_string(),
            origin_server_ts: pdu.origin_server_ts().0,
            sender: pdu.sender().to_string(),
            event_type: pdu.kind().to_owned(),
            state_key: pdu.state_key().map(ToOwned::to_owned),
            membership: pdu.membership(),
            kind: EventKind::Timeline,
            verdict: Verdict::Accepted,
            rank: Rank::default(),
            depth: pdu.depth(),
            root_before: NodeId(0),
            root_after: NodeId(0),
            auth: Vec::new(),
            prev: Vec::new(),
        };
        if let Some(state_key) = pdu.state_key() {
            self.state.insert((pdu.kind().to_owned(), state_key.to_owned()), event.event_id.clone());
        }
        self.extremities = vec![event.event_id.clone()];
        self.arrived.push(event.event_id.clone());
        self.events.insert(event.event_id.clone(), HeldEvent { header, pdu });
    }

    /// The events of the current state, as a resident server sends them.
    pub fn state_json(&self) -> Vec<Value> {
        self.state.values().map(|id| Forged::from(&self.event(id).pdu).json).collect()
    }
}

impl From<&Pdu> for Forged {
    fn from(pdu: &Pdu) -> Self {
        Self { json: serde_json::from_str(pdu.json()).expect("JSON"), event_id: pdu.event_id().clone() }
    }
}

impl Hostile {
    /// What `victim` holds of a room, which the peer knows too.
    ///
    /// # Panics
    /// If the victim doesn't know the room.
    pub async fn look(&self, victim: &Server, room: &RoomId) -> Held {
        victim.parts.held(room).await.expect("the room is known")
    }

    /// An event as it should be, on top of the room as it stands.
    pub fn event(&self, room: &Held, draft: &Draft) -> Forged {
        self.seal(room.version, self.draft(room, draft))
    }

    /// The same, unfinished: to be spoiled, and then given to [`Self::seal`].
    pub fn draft(&self, room: &Held, draft: &Draft) -> Value {
        raw_draft(room, self.now(), draft)
    }

    /// Hashes and signs an event.
    pub fn seal(&self, version: RoomVersion, event: Value) -> Forged {
        forge(version, event, &self.name, self.keys.current())
    }

    /// A public room of the peer's own, made by a user of it.
    ///
    /// # Panics
    /// If the room's version is not known.
    pub fn public_room(&self, version: &str, creator: &str) -> Held {
        let version = RoomVersion::parse(version).expect("a known version");
        let by_hash = version.room_id_is_create_hash();
        let room_id = RoomId::parse(format!("!den:{}", self.name)).expect("a room id");
        let mut room = Held::nothing(room_id, version);
        let content = json!({ "creator": creator, "room_version": version.as_str() });
        let mut create = self.draft(&room, &Draft::state(creator, "m.room.create", "", content));
        if by_hash {
            drop(create.as_object_mut().expect("an object").remove("room_id"));
        }
        let create = self.seal(version, create);
        if by_hash {
            room.room_id = RoomId::parse(format!("!{}", &create.event_id.as_str()[1..])).expect("a room id");
        }
        room.add(&create);
        let levels = if by_hash { json!({}) } else { json!({ creator: 100 }) };
        for draft in [
            Draft::member(creator, creator, "join"),
            Draft::state(creator, "m.room.power_levels", "", json!({ "users": levels })),
            Draft::state(creator, "m.room.join_rules", "", json!({ "join_rule": "public" })),
        ] {
            let event = self.event(&room, &draft);
            room.add(&event);
        }
        room
    }

    /// An event as it should be, but for some fields.
    ///
    /// # Panics
    /// If `fields` is no object.
    pub fn event_with(&self, room: &Held, draft: &Draft, fields: &Value) -> Forged {
        let mut event = self.draft(room, draft);
        let fields: &Map<_, _> = fields.as_object().expect("an object");
        for (name, value) in fields {
            event[name] = value.clone();
        }
        self.seal(room.version, event)
    }
}
