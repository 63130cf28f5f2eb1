//! A change to one room under construction: some events, what they imply, and the one batch that writes it all.
//!
//! It works on a copy of the worker's memory and on a view of the store. Whoever commits it puts the copy in the original's place; if the
//! commit fails, the change is dropped and nothing has happened.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use primitives::{NodeId, Rank, Rix, Slot, UserNid};
use ruma::{EventId, OwnedEventId};
use storage::{
    Batch, ReadError, TableId, View,
    schema::rooms::{self as schema, EventHeader, RoomLogEntry, SlotKey, SlotList},
};

use crate::{
    Pdu,
    context::Context,
    event_key::find_event,
    load::{self, StoredEvent},
    memory::{Memory, StateEvent},
    persist::NewRelations,
    tree::Trees,
};

/// A change to one room, not written yet.
pub(crate) struct Change {
    pub(crate) context: Arc<Context>,
    pub(crate) view: View,
    pub(crate) memory: Memory,
    pub(crate) trees: Trees,
    pub(crate) batch: Batch,
    /// The events of this change: the store doesn't know them yet.
    pub(crate) events: BTreeMap<Rix, StoredEvent>,
    pub(crate) ids: BTreeMap<OwnedEventId, Rix>,
    /// Stored events whose header this change writes anew.
    pub(crate) revised: BTreeMap<Rix, StoredEvent>,
    /// Slots that this change gave out, by the hash of their key and by number.
    pub(crate) new_slots: BTreeMap<[u8; 8], SlotList>,
    pub(crate) new_slot_keys: BTreeMap<Slot, SlotKey>,
    /// The children of events that are missing, as this change leaves them.
    pub(crate) new_missing: BTreeMap<OwnedEventId, Vec<Rix>>,
    /// What is missing at the gaps that this change makes or fills; nothing is left of a gap that is filled.
    pub(crate) new_gaps: BTreeMap<Rank, Vec<String>>,
    /// The redactions of this change whose target is not known, by the target's hash.
    pub(crate) new_pending: BTreeMap<[u8; 16], Vec<Rix>>,
    /// What it has written of relations.
    pub(crate) relations: NewRelations,
    /// Pages of auth edges that are to be written.
    pub(crate) changed_pages: BTreeSet<u32>,
    /// The rows that riders of this change write.
    pub(crate) ridden: HashSet<(TableId, Vec<u8>)>,
    /// What the change appends to the room's log.
    pub(crate) room_log: Vec<RoomLogEntry>,
    pub(crate) user_log_rows: u16,
    /// Local users whose membership changed: woken besides the local members.
    pub(crate) affected: BTreeSet<UserNid>,
    /// The new nodes are wanted, though no event of this change holds them.
    pub(crate) keeps_nodes: bool,
    /// The state that was current before another was put in its place, without the events between.
    pub(crate) replaced: Option<NodeId>,
    /// Members have come, gone or changed.
    pub(crate) members_changed: bool,
    /// The batch begins a job.
    pub(crate) begins_job: bool,
    /// While what arrived in a partial room is judged again, the current state as clients see it: extremities and current state are those of the replay.
    pub(crate) aside: Option<NodeId>,
    /// Events whose rows were taken out of the log.
    pub(crate) withdrawn: Vec<Rix>,
}

impl Change {
    /// A change that has nothing in it yet.
    pub(crate) fn new(context: Arc<Context>, view: View, memory: Memory) -> Self {
        let trees =
            Trees::new(view.clone(), memory.info.nid, Arc::clone(&context.nodes), NodeId(memory.head.next_node));
        Self {
            context,
            view,
            memory,
            trees,
            batch: Batch::new(),
            events: BTreeMap::new(),
            ids: BTreeMap::new(),
            revised: BTreeMap::new(),
            new_slots: BTreeMap::new(),
            new_slot_keys: BTreeMap::new(),
            new_missing: BTreeMap::new(),
            new_gaps: BTreeMap::new(),
            new_pending: BTreeMap::new(),
            relations: NewRelations::default(),
            changed_pages: BTreeSet::new(),
            ridden: HashSet::new(),
            room_log: Vec::new(),
            user_log_rows: 0,
            affected: BTreeSet::new(),
            keeps_nodes: false,
            replaced: None,
            members_changed: false,
            begins_job: false,
            aside: None,
            withdrawn: Vec::new(),
        }
    }

    /// The number of an event of this room, stored or part of this change.
    pub(crate) async fn find(&self, id: &EventId) -> Result<Option<Rix>, ReadError> {
        match self.ids.get(id) {
            Some(rix) => Ok(Some(*rix)),
            None if self.memory.stored.is_none() => Ok(None),
            None => find_event(&self.view, self.memory.info.nid, id).await,
        }
    }

    /// An event by its number; there must be one.
    pub(crate) async fn event(&self, rix: Rix) -> Result<StoredEvent, ReadError> {
        match self.events.get(&rix).or_else(|| self.revised.get(&rix)) {
            Some(event) => Ok(event.clone()),
            None => load::event(&self.view, self.memory.info.nid, self.memory.info.version, rix).await,
        }
    }

    /// The header of an event by its number; there must be one.
    pub(crate) async fn header(&self, rix: Rix) -> Result<EventHeader, ReadError> {
        if let Some(event) = self.events.get(&rix).or_else(|| self.revised.get(&rix)) {
            return Ok(event.header.clone());
        }
        let header = self.view.get::<schema::EventHeaders>(&(self.memory.info.nid, rix)).await?;
        let missing = || load::corrupt::<schema::EventHeaders>(format!("no event {rix} in {}", self.memory.info.nid));
        header.map(|header| header.value).ok_or_else(missing)
    }

    /// The event that a state holds under a type and state key.
    pub(crate) async fn state_event(
        &mut self,
        root: NodeId,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<StateEvent>, ReadError> {
        let key = SlotKey { event_type: event_type.to_owned(), state_key: state_key.to_owned() };
        let is_current = root == self.memory.head.root;
        if is_current && let Some(known) = self.memory.state.get(&key) {
            return Ok(known.clone());
        }
        let rix = match self.find_slot(&key).await? {
            Some(slot) => self.trees.get(root, slot).await?,
            None => None,
        };
        let event = match rix {
            Some(rix) => {
                let event = self.event(rix).await?;
                Some(StateEvent { rix, position: event.position, pdu: event.pdu })
            }
            None => None,
        };
        if is_current {
            self.memory.state.insert(key, event.clone());
        }
        Ok(event)
    }

    /// The event that the current state holds under a type and state key.
    pub(crate) async fn current(&mut self, event_type: &str, state_key: &str) -> Result<Option<StateEvent>, ReadError> {
        self.state_event(self.memory.head.root, event_type, state_key).await
    }

    /// Looks several types and state keys up in a state. Absent ones are left out.
    pub(crate) async fn state_events(
        &mut self,
        root: NodeId,
        keys: &[(&'static str, String)],
    ) -> Result<StateSlice, ReadError> {
        let mut slice = StateSlice::default();
        for (event_type, state_key) in keys {
            if let Some(event) = self.state_event(root, event_type, state_key).await? {
                slice.0.push(((*event_type).to_owned(), state_key.clone(), event));
            }
        }
        Ok(slice)
    }

    /// The slot of a type and state key, if it has one.
    pub(crate) async fn find_slot(&mut self, key: &SlotKey) -> Result<Option<Slot>, ReadError> {
        if let Some(slot) = self.memory.slots.get(key) {
            return Ok(Some(*slot));
        }
        if self.memory.stored.is_none() {
            return Ok(None);
        }
        let slot = crate::slots::find(&self.view, self.context.storage.hash(), self.memory.info.nid, key).await?;
        if let Some(slot) = slot {
            self.memory.slots.insert(key.clone(), slot);
        }
        Ok(slot)
    }
}

/// A few events of a state.
#[derive(Clone, Debug, Default)]
pub(crate) struct StateSlice(pub(crate) Vec<(String, String, StateEvent)>);

impl StateSlice {
    /// One of them.
    pub(crate) fn get(&self, event_type: &str, state_key: &str) -> Option<&StateEvent> {
        self.0.iter().find(|(kind, key, _)| kind == event_type && key == state_key).map(|(_, _, event)| event)
    }

    /// One of them, as authorisation wants it.
    pub(crate) fn pdu(&self, event_type: &str, state_key: &str) -> Option<Pdu> {
        self.get(event_type, state_key).map(|event| event.pdu.clone())
    }

    /// Their numbers, ascending.
    pub(crate) fn rixes(&self) -> Vec<Rix> {
        let mut rixes: Vec<_> = self.0.iter().map(|(_, _, event)| event.rix).collect();
        rixes.sort_unstable();
        rixes.dedup();
        rixes
    }
}
