//! The order of events: extremities, gaps, and what fills them.

use std::collections::BTreeSet;

use primitives::{NodeId, Rix};
use ruma::{EventId, OwnedEventId};
use storage::{
    Positioned, ReadError, Text,
    schema::rooms::{EventHeaders, EventIdList, EventKind, Gaps, MissingPrevs, RixList, Verdict},
};

use super::Judged;
use crate::{change::Change, load::StoredEvent, memory::Tip};

/// Events that one event may follow across others that were not accepted: a bound on work for strangers.
pub(crate) const MAX_FOLLOWED: usize = 1_000;

/// The most events that wait for one that is missing: what arrives has so many headers to write anew.
pub(crate) const MAX_WAITING: usize = 200;

/// What an event follows.
#[derive(Default)]
struct Followed {
    /// Those that are stored.
    stored: BTreeSet<Rix>,
    /// Those that are missing before events that were not accepted.
    missing: Vec<OwnedEventId>,
}

impl Change {
    /// Makes an accepted event an extremity in the place of those that it follows. Answers whether that changed the extremities: an event
    /// whose accepted children were here first is none.
    pub(crate) async fn extend_tips(
        &mut self,
        event: &Judged,
        rix: Rix,
        root_after: NodeId,
    ) -> Result<bool, ReadError> {
        let has_child = !event.relay && !self.accepted_children(event.pdu.event_id()).await?.is_empty();
        let followed = self.followed_by(event).await?;
        for id in &followed.missing {
            self.add_child(id, rix).await?;
        }
        let shrunk = self.drop_tips(&followed.stored);
        if !has_child {
            let tip = Tip { rix, rank: event.rank, root_after, pdu: event.pdu.clone() };
            self.memory.tips.push(tip);
            self.memory.tips.sort_by_key(|tip| tip.rix);
        }
        self.note_tips();
        Ok(!has_child || shrunk)
    }

    /// An event that is not accepted and comes after accepted children: what it follows, they follow.
    ///
    /// ```text
    /// extremity ◄── event ◄── child        (the child was here first)
    /// ```
    pub(crate) async fn follow_across(&mut self, event: &Judged) -> Result<(), ReadError> {
        let children = self.accepted_children(event.pdu.event_id()).await?;
        if children.is_empty() {
            return Ok(());
        }
        let followed = self.followed_by(event).await?;
        for id in followed.missing.iter().chain(&event.missing_prev) {
            for child in &children {
                self.add_child(id, *child).await?;
            }
        }
        if self.drop_tips(&followed.stored) {
            self.note_tips();
            self.reset_head().await?;
        }
        Ok(())
    }

    fn drop_tips(&mut self, followed: &BTreeSet<Rix>) -> bool {
        let before = self.memory.tips.len();
        self.memory.tips.retain(|tip| !followed.contains(&tip.rix));
        before != self.memory.tips.len()
    }

    pub(crate) fn note_tips(&mut self) {
        let memory = &mut self.memory;
        memory.head.extremities = memory.tips.iter().map(|tip| tip.rix).collect();
        memory.head.depth = memory.tips.iter().map(|tip| tip.pdu.depth()).max().unwrap_or(0);
    }

    /// The events that an event follows: its previous events, and across those of them that were not accepted, theirs.
    async fn followed_by(&self, event: &Judged) -> Result<Followed, ReadError> {
        let mut followed = Followed::default();
        let mut open = event.prev.clone();
        while let Some(rix) = open.pop() {
            if followed.stored.len() >= MAX_FOLLOWED || !followed.stored.insert(rix) || self.is_tip(rix) {
                continue;
            }
            if self.header(rix).await?.verdict == Verdict::Accepted {
                continue;
            }
            let across = self.event(rix).await?;
            for id in across.pdu.prev_events() {
                match self.find(id).await? {
                    Some(prev) if across.header.prev.contains(&prev) => open.push(prev),
                    _ => followed.missing.push(id.clone()),
                }
            }
        }
        Ok(followed)
    }

    /// Whether an event is one of the room's extremities.
    pub(crate) fn is_tip(&self, rix: Rix) -> bool {
        self.memory.tips.iter().any(|tip| tip.rix == rix)
    }

    /// The accepted events that follow this one and came before it.
    pub(crate) async fn accepted_children(&self, id: &EventId) -> Result<Vec<Rix>, ReadError> {
        let mut accepted = Vec::new();
        for child in self.waiting_children(id).await? {
            let header = self.header(child).await?;
            if header.verdict == Verdict::Accepted && header.kind == EventKind::Timeline {
                accepted.push(child);
            }
        }
        Ok(accepted)
    }

    /// The stored events that name this one as a `prev_event`, or follow it across others that were not accepted, and came before it.
    pub(crate) async fn waiting_children(&self, id: &EventId) -> Result<Vec<Rix>, ReadError> {
        if let Some(children) = self.new_missing.get(id) {
            return Ok(children.clone());
        }
        let key = (self.memory.info.nid, Text::new(id.as_str()));
        Ok(self.view.get::<MissingPrevs>(&key).await?.unwrap_or_default().0)
    }

    /// Notes that an event waits for one that is missing.
    async fn add_child(&mut self, missing: &EventId, child: Rix) -> Result<(), ReadError> {
        let mut children = self.waiting_children(missing).await?;
        if children.len() < MAX_WAITING && !children.contains(&child) {
            children.push(child);
            let key = (self.memory.info.nid, Text::new(missing.as_str()));
            self.batch.put::<MissingPrevs>(&key, &RixList(children.clone()));
            self.new_missing.insert(missing.to_owned(), children);
        }
        Ok(())
    }

    /// Remembers what is missing before this event, and that this event is missing before none any more.
    pub(crate) async fn close_gaps(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        let room = self.memory.info.nid;
        // History is followed across what was rejected: others may have accepted it.
        let followed = event.is_visible() || event.kind == EventKind::Backfilled;
        if !event.missing_prev.is_empty() && followed {
            let ids: Vec<_> = event.missing_prev.iter().map(ToString::to_string).collect();
            self.batch.put::<Gaps>(&(room, event.rank), &EventIdList(ids.clone()));
            self.new_gaps.insert(event.rank, ids);
        }
        for id in &event.missing_prev {
            self.add_child(id, rix).await?;
        }
        // An event that was made here has an id that nobody knew before.
        if !event.relay {
            for child in self.waiting_children(event.pdu.event_id()).await? {
                self.fill_gap(child, event, rix).await?;
            }
        }
        Ok(())
    }

    /// Takes the event off the list of what is missing before a child, which now follows it; an empty list is no gap.
    async fn fill_gap(&mut self, child: Rix, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        let mut below = self.event(child).await?;
        let id = event.pdu.event_id();
        if event.kind == EventKind::Outlier || !below.pdu.prev_events().contains(id) {
            return Ok(());
        }
        let key = (self.memory.info.nid, below.header.rank);
        if !below.header.prev.contains(&rix) {
            below.header.prev.push(rix);
            self.revise(child, below);
        }
        let mut ids = match self.new_gaps.get(&key.1) {
            Some(ids) => ids.clone(),
            None => self.view.get::<Gaps>(&key).await?.unwrap_or_default().0,
        };
        if ids.is_empty() {
            return Ok(());
        }
        ids.retain(|missing| missing != id.as_str());
        self.new_gaps.insert(key.1, ids.clone());
        if ids.is_empty() {
            self.batch.delete::<Gaps>(&key);
        } else {
            self.batch.put::<Gaps>(&key, &EventIdList(ids));
        }
        Ok(())
    }

    /// Writes the header of an event that is stored, or part of this change, anew.
    pub(crate) fn revise(&mut self, rix: Rix, event: StoredEvent) {
        let header = Positioned { position: event.position, value: event.header.clone() };
        self.batch.put::<EventHeaders>(&(self.memory.info.nid, rix), &header);
        let known = if self.events.contains_key(&rix) { &mut self.events } else { &mut self.revised };
        known.insert(rix, event);
    }
}
