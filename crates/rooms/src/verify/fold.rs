//! The state before and after an event, against those of the events that it follows (I6).

use primitives::{NodeId, Rix, Slot};
use storage::{
    ReadError,
    schema::rooms::{EventKind, Membership, SlotKey, Verdict},
};

use super::{FaultKind, RoomCheck, order::Place};
use crate::{
    change::Change,
    load::StoredEvent,
    state::{self, Difference, EMPTY, Entry, Root},
};

impl RoomCheck<'_> {
    /// The state before the event is what those that it follows make together; the state after it is that with its own slot changed.
    pub(super) async fn check_state(&mut self, rix: Rix, event: &StoredEvent, place: &Place) -> Result<(), ReadError> {
        let header = &event.header;
        if header.kind == EventKind::Outlier {
            if (header.root_before, header.root_after) != (EMPTY, EMPTY) {
                self.event_fault(FaultKind::State, rix, event, "an outlier has no state");
            }
            return Ok(());
        }
        if place.missing.is_empty() {
            self.check_before(rix, event, &place.prev).await?;
        } else {
            self.report.given += 1;
        }
        self.check_own_change(rix, event).await
    }

    async fn check_before(&mut self, rix: Rix, event: &StoredEvent, prev: &[Rix]) -> Result<(), ReadError> {
        let before = event.header.root_before;
        let roots: Vec<_> = prev.iter().filter_map(|prev| self.order.get(*prev)).map(|seen| seen.root_after).collect();
        if roots.len() < prev.len() {
            // One of them could not be read, which has been noted.
            return Ok(());
        }
        if !self.is_resolution(&roots, before).await? {
            self.event_fault(FaultKind::State, rix, event, "the state before it is not what those before it make");
        }
        Ok(())
    }

    /// Whether a state is what several make together.
    pub(super) async fn is_resolution(&mut self, roots: &[NodeId], state: NodeId) -> Result<bool, ReadError> {
        match roots {
            [] => Ok(state == EMPTY),
            [root] if *root == state => Ok(true),
            [root] => Ok(self.change.trees.diff(*root, state).await?.is_empty()),
            _ => {
                self.report.resolved += 1;
                // Its own, so that the nodes that it makes go with it.
                let mut scratch =
                    Change::new(std::sync::Arc::clone(self.context), self.view.clone(), self.change.memory.clone());
                let resolved = scratch.resolved(roots).await?;
                Ok(scratch.trees.diff(resolved, state).await?.is_empty())
            }
        }
    }

    async fn check_own_change(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        let header = &event.header;
        let changed = self.change.trees.diff(header.root_before, header.root_after).await?;
        let fits = match (&header.state_key, &header.verdict) {
            (Some(state_key), Verdict::Accepted | Verdict::SoftFailed(_)) => {
                let key = SlotKey { event_type: header.event_type.clone(), state_key: state_key.clone() };
                let slot = self.change.find_slot(&key).await?;
                let after = Some(Entry { rix, membership: event.pdu.membership() });
                matches!(&changed[..], [one] if Some(one.slot) == slot && one.after == after)
            }
            _ => changed.is_empty(),
        };
        if !fits {
            self.event_fault(
                FaultKind::State,
                rix,
                event,
                "the state after it is not the state before it with its own change",
            );
        }
        let before = self.root(header.root_before).await?;
        let after = self.root(header.root_after).await?;
        if self.summed(&before, &changed) != Sums::of(&after) {
            self.event_fault(FaultKind::State, rix, event, "the state after it counts its members wrongly");
        }
        Ok(())
    }

    /// What is known of a state as a whole.
    pub(super) async fn root(&self, root: NodeId) -> Result<Root, ReadError> {
        self.change.trees.run(|source| state::root(&source, root)).await
    }

    /// What a root says of its state, after some changes.
    fn summed(&self, before: &Root, changed: &[Difference]) -> Sums {
        let mut sums = Sums::of(before);
        for change in changed {
            if let Some(entry) = change.before {
                sums.remove(self, change.slot, entry);
            }
            if let Some(entry) = change.after {
                sums.add(self, change.slot, entry);
            }
        }
        sums
    }
}

/// What the root of a state says of all its slots together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    fingerprint: u128,
    joined: u32,
    invited: u32,
}

impl Sums {
    pub(super) fn of(root: &Root) -> Self {
        Self { fingerprint: root.fingerprint, joined: root.joined, invited: root.invited }
    }

    pub(super) fn add(&mut self, check: &RoomCheck<'_>, slot: Slot, entry: Entry) {
        self.fingerprint =
            self.fingerprint.wrapping_add(state::fingerprint(&check.context.storage.hash(), slot, entry.rix));
        if let Some(count) = self.count(entry) {
            *count = count.wrapping_add(1);
        }
    }

    fn remove(&mut self, check: &RoomCheck<'_>, slot: Slot, entry: Entry) {
        self.fingerprint =
            self.fingerprint.wrapping_sub(state::fingerprint(&check.context.storage.hash(), slot, entry.rix));
        if let Some(count) = self.count(entry) {
            *count = count.wrapping_sub(1);
        }
    }

    fn count(&mut self, entry: Entry) -> Option<&mut u32> {
        match entry.membership {
            Some(Membership::Join) => Some(&mut self.joined),
            Some(Membership::Invite) => Some(&mut self.invited),
            _ => None,
        }
    }
}
