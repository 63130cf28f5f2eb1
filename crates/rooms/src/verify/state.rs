//! The current state: what the extremities make together, slot for slot.

use primitives::{NodeId, Rix, Slot};
use storage::{
    ReadError,
    schema::rooms::{Membership, SlotKey},
};

use super::{FaultKind, RoomCheck, fold::Sums};
use crate::state::{self, Entry};

/// Who a state says is what, and since which event.
pub(super) struct Member {
    pub(super) user_id: String,
    pub(super) slot: Slot,
    pub(super) rix: Rix,
    pub(super) membership: Membership,
}

impl RoomCheck<'_> {
    /// Goes through the whole current state. Answers with its members.
    pub(super) async fn current_state(&mut self) -> Result<Vec<Member>, ReadError> {
        let tips: Vec<NodeId> =
            self.head.extremities.iter().filter_map(|rix| self.order.get(*rix)).map(|seen| seen.root_after).collect();
        if tips.len() == self.head.extremities.len() && !self.is_resolution(&tips, self.head.root).await? {
            self.fault(FaultKind::State, "the current state is not what the extremities make".to_owned());
        }
        let entries = self.entries(self.head.root).await?;
        let mut sums = Sums::default();
        let mut members = Vec::new();
        for (slot, entry) in &entries {
            sums.add(self, *slot, *entry);
            let read = self.change.slot_key(*slot).await;
            let Some(key) = self.readable(read)? else { continue };
            self.check_entry(*slot, *entry, &key).await?;
            if let ("m.room.member", Some(membership)) = (&*key.event_type, entry.membership) {
                members.push(Member { user_id: key.state_key, slot: *slot, rix: entry.rix, membership });
            }
        }
        if sums != Sums::of(&self.root(self.head.root).await?) {
            self.fault(
                FaultKind::State,
                "the current state's counts or fingerprint are not those of its slots".to_owned(),
            );
        }
        // What resolution asks trees for: they find it by the highest numbers below each node.
        let middle = Rix(self.head.next_rix / 2);
        let above = self.change.trees.run(|source| state::above(&source, self.head.root, middle)).await?;
        if !above.iter().eq(entries.iter().filter(|(_, entry)| entry.rix > middle)) {
            self.fault(FaultKind::State, "the current state does not find its newest events".to_owned());
        }
        Ok(members)
    }

    async fn entries(&self, root: NodeId) -> Result<Vec<(Slot, Entry)>, ReadError> {
        let trees = &self.change.trees;
        let mut entries = trees.run(|source| state::others(&source, root)).await?;
        entries.extend(trees.run(|source| state::members(&source, root, |_| true)).await?);
        Ok(entries)
    }

    async fn check_entry(&mut self, slot: Slot, entry: Entry, key: &SlotKey) -> Result<(), ReadError> {
        let read = self.change.header(entry.rix).await;
        let Some(header) = self.readable(read)? else { return Ok(()) };
        let is_state = header.event_type == key.event_type && header.state_key.as_ref() == Some(&key.state_key);
        let rejected = matches!(header.verdict, storage::schema::rooms::Verdict::Rejected(_));
        if !is_state || rejected || header.membership != entry.membership {
            let SlotKey { event_type, state_key } = key;
            let what = format!("event {} holds slot {slot} ({event_type} {state_key:?}), which it cannot", entry.rix);
            self.fault(FaultKind::State, what);
        }
        Ok(())
    }
}
