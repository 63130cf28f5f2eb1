//! What a server holds of a room, read from its store: what tests compare, and what a hostile peer knows of a room that it is in.

use std::{collections::BTreeMap, sync::Arc};

use primitives::{NodeId, Rix};
use rooms::{
    Pdu, Room, RoomVersion, state,
    tree::{NodeCache, StoredTrees},
};
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use storage::{
    Direction, KeyRange, Table, View,
    schema::rooms::{
        EventHeader, EventHeaders, EventJson, EventKind, Gaps, RoomHead, RoomHeads, RoomLog, RoomLogEntry, SlotKeys,
        Verdict,
    },
};

use crate::Parts;

/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// A type and a state key.
pub type StateKey = (String, String);

/// A stored event.
#[derive(Clone, Debug)]
pub struct HeldEvent {
    /// What is known of it.
    pub header: EventHeader,
    /// The event.
    pub pdu: Pdu,
}

impl HeldEvent {
    /// Whether it is in the timeline and was neither rejected nor soft-failed.
    pub fn is_accepted(&self) -> bool {
        self.header.verdict == Verdict::Accepted && self.header.kind != EventKind::Outlier
    }

    /// Whether it was rejected.
    pub fn is_rejected(&self) -> bool {
        matches!(self.header.verdict, Verdict::Rejected(_))
    }
}

/// A room as a server holds it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersion,
    /// Every stored event.
    pub events: BTreeMap<OwnedEventId, HeldEvent>,
    /// The numbers that a server knows them by.
    pub numbers: BTreeMap<Rix, OwnedEventId>,
    /// The current state.
    pub state: BTreeMap<StateKey, OwnedEventId>,
    /// The forward extremities.
    pub extremities: Vec<OwnedEventId>,
    /// The events of the room's log, as they arrived: what clients are told.
    pub arrived: Vec<OwnedEventId>,
    /// Places before which events are missing.
    pub gaps: usize,
}

impl Held {
    /// The state event of a type and state key.
    pub fn state_event(&self, kind: &str, state_key: &str) -> Option<&Pdu> {
        let id = self.state.get(&(kind.to_owned(), state_key.to_owned()))?;
        self.events.get(id).map(|event| &event.pdu)
    }

    /// The `membership` of a user; empty if there is none.
    pub fn membership(&self, user: &str) -> String {
        let member = self.state_event("m.room.member", user).and_then(Pdu::membership);
        member.map(|membership| membership.as_str().to_owned()).unwrap_or_default()
    }

    /// An event that is stored.
    ///
    /// # Panics
    /// If it isn't.
    pub fn event(&self, id: &OwnedEventId) -> &HeldEvent {
        self.events.get(id).unwrap_or_else(|| panic!("{id} is not stored"))
    }

    /// The ids of the events that were accepted into the timeline.
    pub fn accepted(&self) -> Vec<&OwnedEventId> {
        self.events.iter().filter(|(_, event)| event.is_accepted()).map(|(id, _)| id).collect()
    }
}

impl Parts {
    /// What this server holds of a room; `None` if it doesn't know it.
    ///
    /// # Panics
    /// If the store is corrupt.
    pub async fn held(&self, room_id: &RoomId) -> Option<Held> {
        let room = self.rooms.room(room_id).await.ok()?;
        let view = self.storage.view();
        let head = view.get::<RoomHeads>(&(room.nid(),)).await.expect("readable")?;
        Some(held(&view, &room, &head).await)
    }
}

async fn held(view: &View, room: &Room, head: &RoomHead) -> Held {
    let (mut events, mut ids) = (BTreeMap::new(), BTreeMap::new());
    let texts: BTreeMap<_, _> = rows::<EventJson>(view, room).await.into_iter().collect();
    for (key, header) in rows::<EventHeaders>(view, room).await {
        let header = header.value;
        let id = OwnedEventId::try_from(header.event_id.as_str()).expect("an event id");
        let text = String::from_utf8(texts[&key].0.clone()).expect("text");
        let pdu = Pdu::from_stored(room.version(), id.clone(), text).expect("an event");
        ids.insert(key.1, id.clone());
        events.insert(id, HeldEvent { header, pdu });
    }
    let slots: BTreeMap<_, _> =
        rows::<SlotKeys>(view, room).await.into_iter().map(|((_, slot), key)| (slot, key)).collect();
    let entries = entries(view, room, head.root).await;
    let arrived = rows::<RoomLog>(view, room).await.into_iter().filter_map(|(_, entry)| match entry {
        RoomLogEntry::Event { rix, .. } => Some(ids[&rix].clone()),
        RoomLogEntry::Reset { .. } | RoomLogEntry::Whole { .. } | RoomLogEntry::DeviceChange { .. } => None,
    });
    Held {
        room_id: room.id().to_owned(),
        version: room.version(),
        state: entries
            .into_iter()
            .map(|(slot, entry)| {
                let key = &slots[&slot];
                ((key.event_type.clone(), key.state_key.clone()), ids[&entry.rix].clone())
            })
            .collect(),
        extremities: head.extremities.iter().map(|rix| ids[rix].clone()).collect(),
        arrived: arrived.collect(),
        gaps: rows::<Gaps>(view, room).await.len(),
        numbers: ids,
        events,
    }
}

async fn entries(view: &View, room: &Room, root: NodeId) -> Vec<(primitives::Slot, state::Entry)> {
    let trees = StoredTrees::new(view.clone(), room.nid(), Arc::new(NodeCache::new(1_000)));
    let differences = trees.run(|source| state::diff(&source, state::EMPTY, root)).await.expect("readable");
    differences.into_iter().filter_map(|difference| Some((difference.slot, difference.after?))).collect()
}

/// The rows of a table whose keys begin with the room.
async fn rows<T: Table>(view: &View, room: &Room) -> Vec<(T::Key, T::Value)> {
    let (mut found, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(room.nid(),))));
    while let Some(range) = rest {
        let page = view.scan::<T>(&range, PAGE, Direction::Forward).await.expect("readable");
        found.extend(page.rows);
        rest = page.rest;
    }
    found
}
