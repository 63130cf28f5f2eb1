//! The resolution of a fork in a room with 50,000 members, everything at hand.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use primitives::{Clock, KeyedHash, NodeId, Rix, ServerKey, Slot, SystemClock, UnixMillis};
use rooms::{
    Pdu, RoomVersion,
    auth::auth_types_for,
    pdu::{BuildInput, build},
    resolve::{AuthPage, Env, resolve},
    state::{Change, EMPTY, FIRST_MEMBER_SLOT, NewNodes, Node, NodeSource, apply},
};
use ruma::{
    EventId, OwnedEventId, OwnedUserId, RoomId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, to_canonical_value},
};
use serde_json::{Value, json};

use super::table::{Figure, Goal};

const MEMBERS: u32 = 50_000;
const ROUNDS: u32 = 20;

/// A room that is all in memory.
struct Room {
    version: RoomVersion,
    key: ServerKey,
    hash: KeyedHash,
    id: Option<ruma::OwnedRoomId>,
    events: Vec<Pdu>,
    by_id: HashMap<OwnedEventId, Rix>,
    slots: HashMap<(String, String), Slot>,
    pages: HashMap<u32, AuthPage>,
    loaded: HashMap<u32, Arc<AuthPage>>,
    nodes: HashMap<NodeId, Arc<Node>>,
    new: NewNodes,
}

/// A state: its root, and its events by type and key.
#[derive(Clone)]
struct State {
    root: NodeId,
    entries: HashMap<(String, String), Rix>,
}

impl NodeSource for Room {
    fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.nodes.get(&id).cloned()
    }
}

impl Env for Room {
    fn slot(&self, kind: &str, state_key: &str) -> Option<Option<Slot>> {
        Some(self.slots.get(&(kind.to_owned(), state_key.to_owned())).copied())
    }

    fn event(&self, rix: Rix) -> Option<Pdu> {
        self.events.get(rix.0 as usize - 1).cloned()
    }

    fn event_by_id(&self, id: &EventId) -> Option<Option<(Rix, Pdu)>> {
        Some(self.by_id.get(id).and_then(|rix| Some((*rix, self.event(*rix)?))))
    }

    fn auth_page(&self, page: u32) -> Option<Arc<AuthPage>> {
        Some(self.loaded.get(&page).cloned().unwrap_or_default())
    }
}

fn object(value: &Value) -> CanonicalJsonObject {
    to_canonical_value(value).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
}

fn member(number: u32) -> OwnedUserId {
    UserId::parse(format!("@user{number}:bench.test")).expect("a user id")
}

impl Room {
    fn new(version: RoomVersion) -> Self {
        Self {
            version,
            key: ServerKey::new("1", [7; 32]).expect("a valid key"),
            hash: KeyedHash::new([7; 16]),
            id: None,
            events: Vec::new(),
            by_id: HashMap::new(),
            slots: HashMap::new(),
            pages: HashMap::new(),
            loaded: HashMap::new(),
            nodes: HashMap::new(),
            new: NewNodes::new(NodeId(1)),
        }
    }

    /// Makes a state event on a state and puts it into it.
    fn add(
        &mut self,
        state: &mut State,
        sender: &UserId,
        kind: &str,
        state_key: &str,
        content: &Value,
    ) -> anyhow::Result<()> {
        let server = <&ServerName>::try_from("bench.test")?;
        let raw = serde_json::value::to_raw_value(content)?;
        let types = auth_types_for(self.version, &kind.into(), sender, Some(state_key), &raw)?;
        let content = object(content);
        let auth: Vec<Rix> =
            types.into_iter().filter_map(|(kind, key)| state.entries.get(&(kind.to_owned(), key)).copied()).collect();
        let ids: Vec<OwnedEventId> =
            auth.iter().map(|rix| self.events[rix.0 as usize - 1].event_id().clone()).collect();
        let room_id: Option<&RoomId> = self.id.as_deref();
        let last: Vec<OwnedEventId> = self.events.last().map(|event| event.event_id().clone()).into_iter().collect();
        let rix = Rix(u32::try_from(self.events.len())? + 1);
        let input = BuildInput {
            version: self.version,
            room_id,
            sender,
            event_type: kind,
            state_key: Some(state_key),
            content,
            redacts: None,
            prev_events: &last,
            auth_events: &ids,
            reference_hashes: None,
            depth: u64::from(rix.0),
            origin_server_ts: UnixMillis(1_700_000_000_000 + u64::from(rix.0)),
            extra: Vec::new(),
        };
        let pdu = build(input, &self.key, server)?;
        self.id.get_or_insert_with(|| pdu.room_id().to_owned());
        self.pages.entry(AuthPage::of(rix)).or_default().push(rix, &auth);
        self.by_id.insert(pdu.event_id().clone(), rix);
        let entry = (kind.to_owned(), state_key.to_owned());
        let next = u32::try_from(self.slots.len())?;
        let base = if kind == "m.room.member" { FIRST_MEMBER_SLOT.0 } else { 0 };
        let slot = *self.slots.entry(entry.clone()).or_insert(Slot(base + next));
        let change = Change { slot, rix, membership: pdu.membership() };
        self.events.push(pdu);
        state.root = apply(&self.nodes, state.root, &[change], &self.hash, &mut self.new)?;
        self.nodes.extend(self.new.take());
        state.entries.insert(entry, rix);
        Ok(())
    }

    fn with_members(version: RoomVersion) -> anyhow::Result<(Self, State)> {
        let mut room = Self::new(version);
        let mut state = State { root: EMPTY, entries: HashMap::new() };
        let creator = member(0);
        if !version.room_id_is_create_hash() {
            room.id = Some(RoomId::parse("!fork:bench.test")?);
        }
        room.add(&mut state, &creator, "m.room.create", "", &json!({ "room_version": version.as_str() }))?;
        room.add(&mut state, &creator, "m.room.member", creator.as_str(), &json!({ "membership": "join" }))?;
        room.add(&mut state, &creator, "m.room.power_levels", "", &levels(version, 50))?;
        room.add(&mut state, &creator, "m.room.join_rules", "", &json!({ "join_rule": "public" }))?;
        for number in 1..MEMBERS {
            let user = member(number);
            room.add(&mut state, &user, "m.room.member", user.as_str(), &json!({ "membership": "join" }))?;
        }
        Ok((room, state))
    }
}

fn levels(version: RoomVersion, second: u32) -> Value {
    let mut users = json!({ member(1).as_str(): 100, member(2).as_str(): second });
    if !version.privileges_creators() {
        users[member(0).as_str()] = json!(100);
    }
    json!({ "users": users, "state_default": 50, "ban": 50, "kick": 50 })
}

fn forked(version: RoomVersion) -> anyhow::Result<(Room, [NodeId; 2])> {
    let (mut room, base) = Room::with_members(version)?;
    let (mut left, mut right) = (base.clone(), base);
    let (ban, join) = (json!({ "membership": "ban" }), json!({ "membership": "join", "displayname": "new" }));
    room.add(&mut left, &member(1), "m.room.member", member(9).as_str(), &ban)?;
    room.add(&mut left, &member(1), "m.room.power_levels", "", &levels(version, 0))?;
    room.add(&mut right, &member(2), "m.room.topic", "", &json!({ "topic": "another" }))?;
    for number in 9..20 {
        room.add(&mut right, &member(number), "m.room.member", member(number).as_str(), &join)?;
    }
    room.loaded = std::mem::take(&mut room.pages).into_iter().map(|(page, edges)| (page, Arc::new(edges))).collect();
    let roots = [left.root, right.root];
    Ok((room, roots))
}

/// The time of one resolution: a ban and new power levels against a topic and eleven member events.
pub(super) async fn figures(_: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let mut figures = Vec::new();
    for version in ["11", "12"] {
        let version = RoomVersion::parse(version).expect("a known version");
        let (room, roots) = forked(version)?;
        let start = clock.monotonic();
        for _ in 0..ROUNDS {
            let delta = resolve(version, &roots, &room)?;
            anyhow::ensure!(!delta.changes.is_empty(), "the fork changes something");
        }
        let one: Duration = clock.monotonic().saturating_sub(start) / ROUNDS;
        let name = format!("fork with {MEMBERS} members, version {}", version.as_str());
        figures.push(Figure::new(name, one.as_secs_f64() * 1_000.0, "ms", Goal::AtMost(5.0)));
    }
    Ok(figures)
}
