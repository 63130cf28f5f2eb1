//! Writing a judged event: the one place that turns an event into rows. Everything that the event implies for local users goes into the
//! same batch (I1).

mod guests;
mod index;
mod members;
mod order;
mod relations;
mod upgrades;

pub(crate) use index::{MAX_PENDING, relation_in, relation_of};
pub(crate) use order::{MAX_FOLLOWED, MAX_WAITING};
pub(crate) use relations::NewRelations;

use std::sync::Arc;

use primitives::{NodeId, Rank, Rix, Slot, StreamPosition};
use ruma::OwnedEventId;
use storage::{
    Positioned, Raw, ReadError,
    schema::rooms::{
        EventHeader, EventHeaders, EventIds, EventJson, EventKind, EventLocal, EventLocals, EventPlace, PartialEvent,
        RoomLog, RoomLogEntry, SlotKey, Timeline, Verdict,
    },
};

use crate::{
    Pdu, change::Change, event_key::event_key, load::StoredEvent, memory::StateEvent, resolve::AuthPage,
    state::Change as SlotEvent,
};

/// Changed slots that a row of the room's log lists; of more it says only that there are many.
const MAX_LISTED_SLOTS: usize = 32;

/// An event on which judgement has been passed, with all that is known of its place.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) pdu: Pdu,
    pub(crate) kind: EventKind,
    pub(crate) verdict: Verdict,
    pub(crate) rank: Rank,
    /// The state before it; 0 if it is not known.
    pub(crate) root_before: NodeId,
    pub(crate) auth: Vec<Rix>,
    pub(crate) prev: Vec<Rix>,
    /// Those of its `prev_events` that are not stored.
    pub(crate) missing_prev: Vec<OwnedEventId>,
    pub(crate) local: EventLocal,
    /// It is to be sent to other servers.
    pub(crate) relay: bool,
    /// The number that it has had as an outlier.
    pub(crate) known_as: Option<Rix>,
    /// The roots of the states that it was given in the place of missing previous events.
    pub(crate) given: Vec<NodeId>,
}

impl Judged {
    /// Whether it is part of the room's DAG as clients see it.
    fn is_visible(&self) -> bool {
        self.verdict == Verdict::Accepted && self.kind != EventKind::Outlier
    }
}

/// A slot whose event differs between two states.
#[derive(Clone, Debug)]
pub(crate) struct SlotChange {
    pub(crate) slot: Slot,
    pub(crate) key: SlotKey,
    pub(crate) old: Option<Rix>,
    pub(crate) new: Option<Rix>,
}

impl Change {
    /// Adds an event to the change. It fails only where the store does, and then the change is to be dropped.
    pub(crate) async fn persist(&mut self, event: Judged) -> Result<Rix, ReadError> {
        let rix = event.known_as.unwrap_or(Rix(self.memory.head.next_rix));
        self.memory.head.next_rix = self.memory.head.next_rix.max(rix.0 + 1);
        let root_after = self.root_after(&event, rix).await?;
        let header = header_of(&event, root_after);
        self.write_event(&event, &header, rix);
        self.write_edges(&event, rix).await?;
        let rejected = matches!(event.verdict, Verdict::Rejected(_));
        let pdu = event.pdu.clone().with_rejected(rejected);
        let stored = StoredEvent { position: StreamPosition::PENDING, header, pdu };
        self.events.insert(rix, stored);
        self.ids.insert(event.pdu.event_id().clone(), rix);
        self.close_gaps(&event, rix).await?;
        if event.is_visible() {
            self.index(&event, rix).await?;
            self.write_timeline(&event, rix);
            if event.kind == EventKind::Timeline {
                self.advance(&event, rix, root_after).await?;
            }
        } else if event.kind == EventKind::Timeline {
            self.follow_across(&event).await?;
        }
        if event.kind == EventKind::Timeline {
            self.note_partial(&PartialEvent { rix, prev: event.prev, given: event.given, ..PartialEvent::default() });
        }
        Ok(rix)
    }

    /// The state after an event. A rejected one leaves the state as it was.
    pub(crate) async fn root_after(&mut self, event: &Judged, rix: Rix) -> Result<NodeId, ReadError> {
        let begins = event.pdu.kind() == "m.room.create" && event.kind != EventKind::Outlier;
        let knows_state = event.root_before != NodeId(0) || begins;
        let rejected = matches!(event.verdict, Verdict::Rejected(_));
        let (Some(state_key), true, false) = (event.pdu.state_key(), knows_state, rejected) else {
            return Ok(event.root_before);
        };
        let key = SlotKey { event_type: event.pdu.kind().to_owned(), state_key: state_key.to_owned() };
        let slot = self.slot(&key).await?;
        let change = SlotEvent { slot, rix, membership: event.pdu.membership() };
        let key = self.context.storage.hash();
        self.trees.apply(event.root_before, &[change], &key).await
    }

    fn write_event(&mut self, event: &Judged, header: &EventHeader, rix: Rix) {
        let room = self.memory.info.nid;
        self.batch
            .put::<EventHeaders>(&(room, rix), &Positioned::pending(header.clone()))
            .put::<EventJson>(&(room, rix), &Raw(event.pdu.json().as_bytes().to_vec()))
            .put::<EventIds>(&(event_key(event.pdu.event_id()),), &EventPlace { room, rix });
        if event.local != EventLocal::default() {
            self.batch.put::<EventLocals>(&(room, rix), &event.local);
        }
    }

    /// Notes the auth edges of a state event where resolution looks for them.
    async fn write_edges(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        if event.pdu.state_key().is_some() && event.known_as.is_none() {
            let page = AuthPage::of(rix);
            let mut edges = self.auth_page(page).await?;
            Arc::make_mut(&mut edges).push(rix, &event.auth);
            self.memory.auth_pages.insert(page, edges);
            self.changed_pages.insert(page);
        }
        Ok(())
    }

    pub(crate) fn write_timeline(&mut self, event: &Judged, rix: Rix) {
        self.batch.put::<Timeline>(&(self.memory.info.nid, event.rank, rix), &());
        self.memory.head.max_rank = self.memory.head.max_rank.max(event.rank);
    }

    /// Moves the room's head over an accepted event, and says in the logs what that changed.
    async fn advance(&mut self, event: &Judged, rix: Rix, root_after: NodeId) -> Result<(), ReadError> {
        let replaced = self.replaced.take();
        let old_root = replaced.unwrap_or(self.memory.head.root);
        let was_linear = event.root_before == old_root;
        if self.extend_tips(event, rix, root_after).await? {
            let roots: Vec<_> = self.memory.tips.iter().map(|tip| tip.root_after).collect();
            self.memory.head.root = self.resolved(&roots).await?;
        }
        let root = self.memory.head.root;
        let changes = if replaced.is_some() {
            self.local_differences(old_root, root).await?
        } else if was_linear && root == root_after {
            self.own_change(event, rix).await?
        } else {
            self.differences(old_root, root).await?
        };
        self.remember(&changes).await?;
        self.write_differences(&changes).await?;
        let changed: Vec<_> = changes.iter().map(|change| change.slot).collect();
        let changed = (changed.len() <= MAX_LISTED_SLOTS && replaced.is_none()).then_some(changed);
        let entry = RoomLogEntry::Event { rix, rank: event.rank, root, changed, relay: event.relay };
        self.log(entry);
        Ok(())
    }

    /// Moves the room's head where its extremities are fewer and no event is there to say so.
    async fn reset_head(&mut self) -> Result<(), ReadError> {
        let old = self.memory.head.root;
        let roots: Vec<_> = self.memory.tips.iter().map(|tip| tip.root_after).collect();
        let new = self.resolved(&roots).await?;
        self.memory.head.root = new;
        if self.aside.is_some() {
            self.memory.state = imbl::HashMap::new();
            return Ok(());
        }
        let changes = self.differences(old, new).await?;
        if !changes.is_empty() {
            self.remember(&changes).await?;
            self.write_differences(&changes).await?;
            self.log(RoomLogEntry::Reset { old, new });
        }
        Ok(())
    }

    /// What a change of the current state means beyond it.
    pub(crate) async fn write_differences(&mut self, changes: &[SlotChange]) -> Result<(), ReadError> {
        self.write_members(changes).await?;
        self.write_guests(changes).await?;
        self.write_upgrades(changes).await
    }

    /// The one slot that a state event changes when it comes on top of the current state.
    async fn own_change(&mut self, event: &Judged, rix: Rix) -> Result<Vec<SlotChange>, ReadError> {
        let Some(state_key) = event.pdu.state_key() else { return Ok(Vec::new()) };
        let key = SlotKey { event_type: event.pdu.kind().to_owned(), state_key: state_key.to_owned() };
        let slot = self.slot(&key).await?;
        let old = self.trees.get(event.root_before, slot).await?;
        Ok(vec![SlotChange { slot, key, old, new: Some(rix) }])
    }

    async fn differences(&mut self, old: NodeId, new: NodeId) -> Result<Vec<SlotChange>, ReadError> {
        let mut changes = Vec::new();
        for difference in self.trees.diff(old, new).await? {
            let (old, new) = (difference.before.map(|entry| entry.rix), difference.after.map(|entry| entry.rix));
            let key = self.slot_key(difference.slot).await?;
            changes.push(SlotChange { slot: difference.slot, key, old, new });
        }
        Ok(changes)
    }

    /// Brings the memory of the current state up to date.
    pub(crate) async fn remember(&mut self, changes: &[SlotChange]) -> Result<(), ReadError> {
        for change in changes {
            let event = match change.new {
                Some(rix) => {
                    let event = self.event(rix).await?;
                    Some(StateEvent { rix, position: event.position, pdu: event.pdu })
                }
                None => None,
            };
            self.memory.state.insert(change.key.clone(), event);
        }
        Ok(())
    }

    /// Appends to the room's log.
    pub(crate) fn log(&mut self, entry: RoomLogEntry) {
        let index = u16::try_from(self.room_log.len()).expect("a change is far smaller than what a batch can hold");
        self.batch.put::<RoomLog>(&(self.memory.info.nid, StreamPosition::PENDING, index), &entry);
        self.room_log.push(entry);
    }
}

fn header_of(event: &Judged, root_after: NodeId) -> EventHeader {
    let pdu = &event.pdu;
    EventHeader {
        event_id: pdu.event_id().to_string(),
        origin_server_ts: pdu.origin_server_ts().0,
        sender: pdu.sender().to_string(),
        event_type: pdu.kind().to_owned(),
        state_key: pdu.state_key().map(ToOwned::to_owned),
        membership: pdu.membership(),
        kind: event.kind,
        verdict: event.verdict.clone(),
        rank: event.rank,
        depth: pdu.depth(),
        root_before: event.root_before,
        root_after,
        auth: event.auth.clone(),
        prev: event.prev.clone(),
    }
}
