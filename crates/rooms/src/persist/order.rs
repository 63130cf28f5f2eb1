//! The order of events: extremities, gaps, and what fills them.

use std::collections::BTreeSet;

use primitives::{NodeId, Rix};
use storage::{
    ReadError, Text,
    schema::rooms::{EventIdList, EventKind, Gaps, MissingPrevs, RixList, Verdict},
};

use super::Judged;
use crate::{change::Change, memory::Tip};

/// Events that one event may follow across others that were not accepted: a bound on work for strangers.
const MAX_FOLLOWED: usize = 1_000;

impl Change {
    /// Makes an accepted event an extremity in the place of those that it follows. Answers whether it became one: an event whose accepted
    /// children were here first does not.
    pub(super) async fn extend_tips(
        &mut self,
        event: &Judged,
        rix: Rix,
        root_after: NodeId,
    ) -> Result<bool, ReadError> {
        let has_child = self.has_accepted_child(event).await?;
        let followed = self.followed_by(event).await?;
        let memory = &mut self.memory;
        let before = memory.tips.len();
        memory.tips.retain(|tip| !followed.contains(&tip.rix));
        if !has_child {
            memory.tips.push(Tip { rix, rank: event.rank, root_after, pdu: event.pdu.clone() });
        }
        memory.head.extremities = memory.tips.iter().map(|tip| tip.rix).collect();
        memory.head.depth = memory.tips.iter().map(|tip| tip.pdu.depth()).max().unwrap_or(0);
        Ok(!has_child || before != memory.tips.len())
    }

    /// The events that an event follows: its previous events, and across those of them that were not accepted, theirs.
    async fn followed_by(&self, event: &Judged) -> Result<BTreeSet<Rix>, ReadError> {
        let mut followed = BTreeSet::new();
        let mut open = event.prev.clone();
        while let Some(rix) = open.pop() {
            if followed.len() < MAX_FOLLOWED && followed.insert(rix) && !self.is_tip(rix) {
                let header = self.header(rix).await?;
                if header.verdict != Verdict::Accepted {
                    open.extend(header.prev);
                }
            }
        }
        Ok(followed)
    }

    fn is_tip(&self, rix: Rix) -> bool {
        self.memory.tips.iter().any(|tip| tip.rix == rix)
    }

    async fn has_accepted_child(&self, event: &Judged) -> Result<bool, ReadError> {
        for child in self.waiting_children(event).await? {
            let header = self.header(child).await?;
            if header.verdict == Verdict::Accepted && header.kind == EventKind::Timeline {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The stored events that name this one as a `prev_event` and came before it.
    async fn waiting_children(&self, event: &Judged) -> Result<Vec<Rix>, ReadError> {
        // An event that was made here has an id that nobody knew before.
        if event.relay {
            return Ok(Vec::new());
        }
        let key = (self.memory.info.nid, Text::new(event.pdu.event_id().as_str()));
        if let Some(children) = self.new_missing.get(event.pdu.event_id()) {
            return Ok(children.clone());
        }
        Ok(self.view.get::<MissingPrevs>(&key).await?.unwrap_or_default().0)
    }

    /// Remembers what is missing before this event, and that this event is missing before none any more.
    pub(super) async fn close_gaps(&mut self, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        let room = self.memory.info.nid;
        if !event.missing_prev.is_empty() && event.is_visible() {
            let ids: Vec<_> = event.missing_prev.iter().map(ToString::to_string).collect();
            self.batch.put::<Gaps>(&(room, event.rank), &EventIdList(ids.clone()));
            self.new_gaps.insert(event.rank, ids);
        }
        for id in &event.missing_prev {
            let key = (room, Text::new(id.as_str()));
            let known = match self.new_missing.get(id) {
                Some(children) => children.clone(),
                None => self.view.get::<MissingPrevs>(&key).await?.unwrap_or_default().0,
            };
            let children: Vec<_> = known.into_iter().chain([rix]).collect();
            self.batch.put::<MissingPrevs>(&key, &RixList(children.clone()));
            self.new_missing.insert(id.clone(), children);
        }
        for child in self.waiting_children(event).await? {
            self.fill_gap(child, event).await?;
        }
        Ok(())
    }

    /// Takes the event off the list of what is missing before a child; an empty list is no gap.
    async fn fill_gap(&mut self, child: Rix, event: &Judged) -> Result<(), ReadError> {
        let key = (self.memory.info.nid, self.header(child).await?.rank);
        let mut ids = match self.new_gaps.get(&key.1) {
            Some(ids) => ids.clone(),
            None => self.view.get::<Gaps>(&key).await?.unwrap_or_default().0,
        };
        if ids.is_empty() {
            return Ok(());
        }
        ids.retain(|id| id != event.pdu.event_id().as_str());
        self.new_gaps.insert(key.1, ids.clone());
        if ids.is_empty() {
            self.batch.delete::<Gaps>(&key);
        } else {
            self.batch.put::<Gaps>(&key, &EventIdList(ids));
        }
        Ok(())
    }
}
