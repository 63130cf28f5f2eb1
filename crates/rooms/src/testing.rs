//! A room in memory for this crate's unit tests: real events, authorised against plain maps of state.

pub(crate) mod stored;

use std::collections::{BTreeMap, HashMap};

use primitives::{ServerKey, UnixMillis};
use ruma::{EventId, OwnedEventId, OwnedRoomId, UserId, canonical_json::to_canonical_value, server_name};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    AuthError, Pdu, RoomVersion,
    auth::{auth_types_for, authorise},
    pdu::{BuildInput, build},
};

/// A room's state, by type and state key.
pub(crate) type State = BTreeMap<(String, String), Pdu>;

/// The events of a room in the order of their making.
pub(crate) struct TestRoom {
    pub(crate) version: RoomVersion,
    pub(crate) events: Vec<Pdu>,
    pub(crate) by_id: HashMap<OwnedEventId, usize>,
    /// The time of the next event; tests may move it in either direction.
    pub(crate) now: u64,
    key: ServerKey,
    room_id: Option<OwnedRoomId>,
}

/// What [`TestRoom::make`] makes an event of.
pub(crate) struct Draft<'a> {
    pub(crate) sender: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) state_key: Option<&'a str>,
    pub(crate) content: Value,
}

impl<'a> Draft<'a> {
    pub(crate) fn state(sender: &'a str, kind: &'a str, state_key: &'a str, content: Value) -> Self {
        Self { sender, kind, state_key: Some(state_key), content }
    }

    pub(crate) fn member(sender: &'a str, target: &'a str, membership: &str) -> Self {
        Self::state(sender, "m.room.member", target, json!({ "membership": membership }))
    }
}

impl TestRoom {
    /// A room with no events yet.
    pub(crate) fn new(version: &str) -> Self {
        let version = RoomVersion::parse(version).expect("a known version");
        let room_id = (!version.room_id_is_create_hash()).then(|| "!room:x".try_into().expect("a room id"));
        let key = ServerKey::new("1", [7; 32]).expect("a valid version");
        Self { version, events: vec![], by_id: HashMap::new(), now: 1_000, key, room_id }
    }

    /// A public room with its creator `@a:x` in it, and the state so far.
    pub(crate) fn public(version: &str) -> (Self, State) {
        let mut room = Self::new(version);
        let mut state = State::new();
        let create = json!({ "creator": "@a:x", "room_version": version });
        for draft in [
            Draft::state("@a:x", "m.room.create", "", create),
            Draft::member("@a:x", "@a:x", "join"),
            Draft::state("@a:x", "m.room.power_levels", "", room.levels(&[])),
            Draft::state("@a:x", "m.room.join_rules", "", json!({ "join_rule": "public" })),
        ] {
            room.apply(&mut state, draft).expect("the first events of a room are allowed");
        }
        (room, state)
    }

    /// Power levels with the creator at 100 (where the version lets that be said) and the given others.
    pub(crate) fn levels(&self, users: &[(&str, i64)]) -> Value {
        let mut levels: BTreeMap<&str, i64> = users.iter().copied().collect();
        if !self.version.privileges_creators() {
            levels.insert("@a:x", 100);
        }
        json!({ "users": levels, "invite": 0 })
    }

    /// The event of that id.
    pub(crate) fn get(&self, id: &EventId) -> Option<Pdu> {
        self.by_id.get(id).map(|at| self.events[*at].clone())
    }

    /// Makes an event on that state, authorised or not, that follows the last one made.
    pub(crate) fn make(&mut self, state: &State, draft: &Draft<'_>) -> Pdu {
        let sender = <&UserId>::try_from(draft.sender).expect("a user id");
        let raw = to_raw_value(&draft.content).expect("JSON");
        let auth = auth_types_for(self.version, &draft.kind.into(), sender, draft.state_key, &raw).unwrap_or_default();
        let auth = auth.into_iter().filter_map(|(kind, key)| state.get(&(kind.to_owned(), key)));
        let auth: Vec<_> = auth.map(|pdu| pdu.event_id().clone()).collect();
        let prev: Vec<_> = self.events.last().map(|pdu| pdu.event_id().clone()).into_iter().collect();
        let hashes = self.version.references_are_pairs().then(|| self.hashes(auth.iter().chain(&prev)));
        let content = to_canonical_value(&draft.content).expect("canonical");
        let input = BuildInput {
            version: self.version,
            room_id: self.room_id.as_deref(),
            sender,
            event_type: draft.kind,
            state_key: draft.state_key,
            content: content.as_object().expect("an object").clone(),
            redacts: None,
            prev_events: &prev,
            auth_events: &auth,
            reference_hashes: hashes.as_ref(),
            depth: self.events.len() as u64 + 1,
            origin_server_ts: UnixMillis(self.now),
            extra: vec![],
        };
        let pdu = build(input, &self.key, server_name!("x")).expect("a valid event");
        self.room_id.get_or_insert_with(|| pdu.room_id().to_owned());
        self.now += 10;
        pdu
    }

    /// Makes an event and, if the state allows it, keeps it and puts it into the state.
    #[expect(clippy::needless_pass_by_value, reason = "drafts are made where they are used")]
    pub(crate) fn apply(&mut self, state: &mut State, draft: Draft<'_>) -> Result<Pdu, AuthError> {
        let pdu = self.make(state, &draft);
        authorise(&pdu, |kind, key| state.get(&(kind.to_owned(), key.to_owned())).cloned())?;
        self.keep(&pdu);
        if let Some(state_key) = pdu.state_key() {
            state.insert((pdu.kind().to_owned(), state_key.to_owned()), pdu.clone());
        }
        Ok(pdu)
    }

    /// Adds an event to the room's.
    pub(crate) fn keep(&mut self, pdu: &Pdu) {
        self.by_id.insert(pdu.event_id().clone(), self.events.len());
        self.events.push(pdu.clone());
    }

    fn hashes<'a>(&self, ids: impl Iterator<Item = &'a OwnedEventId>) -> BTreeMap<OwnedEventId, String> {
        let hash = |id: &OwnedEventId| self.get(id)?.reference_hash().ok().map(|hash| (id.clone(), hash));
        ids.filter_map(hash).collect()
    }
}
