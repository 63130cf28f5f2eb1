//! Rooms written into a store row by row, for tests of the reads: gaps, forks and whole batches at will, without a worker.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use primitives::{
    KeyedHash, ManualClock, NodeId, Random, Rank, Rix, RoomNid, SharedClock, Slot, StreamPosition, UnixMillis, UserNid,
};
use ruma::{EventId, OwnedEventId, RoomId, owned_server_name};
use serde_json::{Value, json};
use storage::{
    Batch, Positioned, Raw, Storage, Text,
    schema::rooms::{
        self as schema, EventHeader, EventKind, EventLocal, EventPlace, Membership, MembershipRow, RoomHead,
        RoomLogEntry, RoomRow, SlotKey, SlotList, UserLogEntry, Verdict,
    },
};
use users::Users;

use crate::{
    Reader, Reads,
    activity::RoomActivity,
    event_key::event_key,
    state::{self, Change, EMPTY, FIRST_MEMBER_SLOT, NewNodes, Node},
    tree::NodeCache,
};

/// The room that tests are about unless they say otherwise.
pub(crate) const ROOM: RoomNid = RoomNid(1);

/// A server with rooms and without a writer.
pub(crate) struct World {
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) activity: Arc<RoomActivity>,
    pub(crate) users: Users,
    pub(crate) reads: Reads,
    rooms: BTreeMap<RoomNid, Room>,
}

fn nodes() -> Arc<NodeCache> {
    Arc::new(NodeCache::new(1_000))
}

/// What the writer knows of a room.
#[derive(Default)]
struct Room {
    head: RoomHead,
    slots: HashMap<SlotKey, Slot>,
    nodes: HashMap<NodeId, Arc<Node>>,
    members: HashMap<String, (Rix, Membership)>,
}

/// An event to be written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) sender: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) state_key: Option<String>,
    pub(crate) content: Value,
    pub(crate) local: Option<EventLocal>,
    /// Events are missing before it.
    pub(crate) gap: bool,
    /// Its rank, where it is not the next one.
    pub(crate) rank: Option<Rank>,
    pub(crate) verdict: Verdict,
}

pub(crate) fn message(sender: &'static str, body: &str) -> Draft {
    Draft {
        sender,
        kind: "m.room.message",
        state_key: None,
        content: json!({ "body": body, "msgtype": "m.text" }),
        local: None,
        gap: false,
        rank: None,
        verdict: Verdict::Accepted,
    }
}

pub(crate) fn state_event(sender: &'static str, kind: &'static str, content: Value) -> Draft {
    Draft { kind, state_key: Some(String::new()), content, ..message(sender, "") }
}

pub(crate) fn member(sender: &'static str, target: &str, membership: &str) -> Draft {
    let content = json!({ "membership": membership, "displayname": target });
    Draft { state_key: Some(target.to_owned()), ..state_event(sender, "m.room.member", content) }
}

/// The number of a test's user: `@a:x` is 1, `@b:x` 2 and so on; users of other servers have none.
pub(crate) fn number(user: &str) -> Option<UserNid> {
    let name = user.strip_prefix('@')?.strip_suffix(":x")?;
    Some(UserNid(u32::from(*name.as_bytes().first()? - b'a') + 1))
}

pub(crate) fn reader(user: &str) -> Reader {
    Reader {
        user_id: user.try_into().expect("a user id"),
        user_nid: number(user).expect("a local user"),
        device_id: Some("PHONE".into()),
    }
}

pub(crate) fn room_id(room: RoomNid) -> String {
    format!("!r{room}:x")
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let shared: SharedClock = clock.clone();
        let random = Random::seeded(7);
        let storage = Storage::memory(&shared, &random);
        let options = users::Options::new(owned_server_name!("x"));
        let users = Users::open(storage.clone(), shared.clone(), random, options).await.expect("users open");
        let activity = Arc::new(RoomActivity::default());
        let reads = Reads::new(storage.clone(), users.clone(), shared, Arc::clone(&activity), nodes());
        Self { storage, clock, activity, users, reads, rooms: BTreeMap::new() }
    }

    /// The same store after a restart: nothing is cached.
    pub(crate) fn restart(&mut self) {
        self.activity = Arc::new(RoomActivity::default());
        let clock: SharedClock = self.clock.clone();
        self.reads = Reads::new(self.storage.clone(), self.users.clone(), clock, Arc::clone(&self.activity), nodes());
    }

    /// A public room of `@a:x`, of that history visibility: five events.
    pub(crate) async fn room(&mut self, room: RoomNid, visibility: &str) {
        for draft in [
            state_event("@a:x", "m.room.create", json!({ "room_version": "11" })),
            member("@a:x", "@a:x", "join"),
            state_event("@a:x", "m.room.power_levels", json!({})),
            state_event("@a:x", "m.room.join_rules", json!({ "join_rule": "public" })),
            state_event("@a:x", "m.room.history_visibility", json!({ "history_visibility": visibility })),
        ] {
            self.send_to(room, draft).await;
        }
    }

    /// Writes an event as a batch of its own. Answers with its number.
    pub(crate) async fn send(&mut self, draft: Draft) -> Rix {
        self.send_to(ROOM, draft).await
    }

    pub(crate) async fn send_to(&mut self, room: RoomNid, draft: Draft) -> Rix {
        self.send_all(room, vec![draft]).await[0]
    }

    /// Writes events as one batch.
    pub(crate) async fn send_all(&mut self, room: RoomNid, drafts: Vec<Draft>) -> Vec<Rix> {
        let mut batch = Batch::new();
        let mut written = Written { index: 0, woken: vec![] };
        let hash = self.storage.hash();
        let now = self.clock_now();
        let known = self.rooms.entry(room).or_insert_with(|| {
            let row = RoomRow { room_id: room_id(room), version: "11".to_owned() };
            batch.put::<schema::Rooms>(&(room,), &row).put::<schema::RoomIds>(&(Text::new(room_id(room)),), &room);
            let head = RoomHead { next_rix: 1, next_node: 1, max_rank: Rank(Rank::FIRST.0 - 1), ..RoomHead::default() };
            Room { head, ..Room::default() }
        });
        let rixes =
            drafts.into_iter().map(|draft| known.write(room, hash, now, &draft, &mut batch, &mut written)).collect();
        batch.put::<schema::RoomHeads>(&(room,), &known.head);
        let writing = self.activity.writing(room);
        let members = self.activity.changing_members(room, &written.woken.iter().copied().collect());
        let position = self.storage.commit(batch).await.expect("commits");
        members.committed(position);
        writing.committed(position);
        let members = known.members.keys().filter_map(|user| number(user));
        members.chain(written.woken).for_each(|user| self.users.wakeups().wake(user, position));
        rixes
    }

    fn clock_now(&self) -> u64 {
        use primitives::Clock;
        self.clock.now().0
    }

    /// Writes other rows.
    pub(crate) async fn write(&self, fill: impl FnOnce(&mut Batch)) -> StreamPosition {
        let mut batch = Batch::new();
        fill(&mut batch);
        self.storage.commit(batch).await.expect("commits")
    }

    /// Lets a redaction apply.
    pub(crate) async fn redact(&mut self, target: Rix) -> Rix {
        let id = event_id(ROOM, target);
        self.activity.redacts(ROOM);
        let redaction = Draft { kind: "m.room.redaction", content: json!({ "redacts": id }), ..message("@a:x", "") };
        let rix = self.send(redaction).await;
        let hash = self.storage.hash().hash16(&[id.as_bytes()]);
        self.write(|batch| {
            batch.put::<schema::Redactions>(&(ROOM, hash, rix), &());
        })
        .await;
        rix
    }

    #[expect(clippy::unused_self, reason = "reads as the world's room")]
    pub(crate) fn id(&self) -> &'static RoomId {
        ruma::room_id!("!r1:x")
    }
}

/// What a batch has so far.
struct Written {
    index: u16,
    woken: Vec<UserNid>,
}

pub(crate) fn event_id(room: RoomNid, rix: Rix) -> OwnedEventId {
    EventId::parse(format!("$r{room}e{rix}")).expect("an event id")
}

impl Room {
    fn write(
        &mut self,
        room: RoomNid,
        hash: KeyedHash,
        now: u64,
        draft: &Draft,
        batch: &mut Batch,
        written: &mut Written,
    ) -> Rix {
        let rix = Rix(self.head.next_rix);
        self.head.next_rix += 1;
        let next_rank = Rank(self.head.max_rank.0 + if draft.gap { Rank::GAP } else { 1 });
        let rank = draft.rank.unwrap_or(next_rank);
        self.head.max_rank = self.head.max_rank.max(rank);
        let membership =
            (draft.kind == "m.room.member").then(|| draft.content["membership"].as_str().and_then(Membership::parse));
        let membership = membership.flatten();
        let root_before = self.head.root;
        let changed = draft.state_key.as_ref().filter(|_| draft.verdict == Verdict::Accepted).map(|state_key| {
            let key = SlotKey { event_type: draft.kind.to_owned(), state_key: state_key.clone() };
            self.change(room, hash, &key, Change { slot: Slot(0), rix, membership }, batch)
        });
        let header = EventHeader {
            event_id: event_id(room, rix).to_string(),
            origin_server_ts: now,
            sender: draft.sender.to_owned(),
            event_type: draft.kind.to_owned(),
            state_key: draft.state_key.clone(),
            membership,
            kind: EventKind::Timeline,
            verdict: draft.verdict.clone(),
            rank,
            depth: u64::from(rix.0),
            root_before,
            root_after: self.head.root,
            auth: vec![],
            prev: vec![],
        };
        let mut event = json!({ "content": draft.content, "origin_server_ts": now, "room_id": room_id(room),
            "sender": draft.sender, "type": draft.kind, "depth": rix.0, "prev_events": [], "auth_events": [] });
        if let Some(state_key) = &draft.state_key {
            event["state_key"] = json!(state_key);
        }
        batch
            .put::<schema::EventHeaders>(&(room, rix), &Positioned::pending(header))
            .put::<schema::EventJson>(&(room, rix), &Raw(event.to_string().into_bytes()))
            .put::<schema::EventIds>(&(event_key(&event_id(room, rix)),), &EventPlace { room, rix });
        if let Some(local) = &draft.local {
            batch.put::<schema::EventLocals>(&(room, rix), local);
        }
        if draft.gap {
            batch.put::<schema::Gaps>(&(room, rank), &schema::EventIdList(vec!["$missing".to_owned()]));
        }
        if draft.verdict == Verdict::Accepted {
            self.log(room, rix, rank, changed, batch, written);
            if let (Some(membership), Some(target)) = (membership, &draft.state_key) {
                self.note_member(room, target, rix, membership, batch, written);
            }
        }
        rix
    }

    fn log(
        &self,
        room: RoomNid,
        rix: Rix,
        rank: Rank,
        changed: Option<Slot>,
        batch: &mut Batch,
        written: &mut Written,
    ) {
        let changed = Some(changed.into_iter().collect());
        let entry = RoomLogEntry::Event { rix, rank, root: self.head.root, changed, relay: true };
        batch
            .put::<schema::Timeline>(&(room, rank, rix), &())
            .put::<schema::RoomLog>(&(room, StreamPosition::PENDING, written.index), &entry);
        written.index += 1;
    }

    fn change(&mut self, room: RoomNid, hash: KeyedHash, key: &SlotKey, change: Change, batch: &mut Batch) -> Slot {
        let slot = *self.slots.entry(key.clone()).or_insert_with(|| {
            let counter = match &*key.event_type {
                "m.room.member" => &mut self.head.next_member_slot,
                _ => &mut self.head.next_slot,
            };
            *counter += 1;
            let base = if key.event_type == "m.room.member" { FIRST_MEMBER_SLOT.0 } else { 0 };
            let slot = Slot(base + *counter - 1);
            let hashed = hash.hash8(&[key.event_type.as_bytes(), key.state_key.as_bytes()]);
            batch
                .put::<schema::Slots>(&(room, hashed), &SlotList(vec![slot]))
                .put::<schema::SlotKeys>(&(room, slot), key);
            slot
        });
        let mut new = NewNodes::new(NodeId(self.head.next_node));
        let root = state::apply(&self.nodes, self.head.root, &[Change { slot, ..change }], &hash, &mut new);
        self.head.root = root.expect("every node is at hand");
        self.head.next_node = new.next().0;
        for (id, node) in new.take() {
            batch.put::<schema::StateNodes>(&(room, id), &Raw(node.encode()));
            self.nodes.insert(id, node);
        }
        assert_ne!(self.head.root, EMPTY);
        slot
    }

    fn note_member(
        &mut self,
        room: RoomNid,
        target: &str,
        rix: Rix,
        membership: Membership,
        batch: &mut Batch,
        written: &mut Written,
    ) {
        let before = self.members.insert(target.to_owned(), (rix, membership)).map(|(_, membership)| membership);
        let Some(user) = number(target) else { return };
        let row = Positioned::pending(MembershipRow { membership, rix, forgotten: false });
        let entry = UserLogEntry::Membership { room, membership, rix, before };
        batch
            .put::<schema::Memberships>(&(user, room), &row)
            .put::<schema::UserLog>(&(user, StreamPosition::PENDING, written.index), &entry);
        written.index += 1;
        written.woken.push(user);
    }
}
