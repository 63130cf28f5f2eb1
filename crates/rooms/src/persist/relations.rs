//! What relates to what: the rows that readers find relations by, and what is counted of them so that no reader has to.
//!
//! A relation counts from when the relating event is accepted until it is redacted, whichever comes first: then its rows go.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{Rank, Rix};
use storage::{
    Direction, KeyRange, ReadError,
    schema::{
        history::{RelationCountRow, RelationCounts, ThreadRow, ThreadSenderRow, ThreadSenders, Threads},
        rooms::{Redactions, RelationKind, RelationRow, Relations},
    },
};

use super::{Judged, index::relation_of};
use crate::change::Change;

/// Events of a thread that are read at once to find the newest that is left.
const PAGE: usize = 16;

/// The keyed hash of an event's id.
type EventHash = [u8; 16];
/// A relation's place among those with one target.
type Place = (RelationKind, Rank, Rix);

/// What a change has written of relations: later events of it build on that.
#[derive(Debug, Default)]
pub(crate) struct NewRelations {
    /// Relations that were added (`true`) or taken away, by the target's hash.
    rows: BTreeMap<(EventHash, Place), bool>,
    counts: BTreeMap<EventHash, RelationCountRow>,
    senders: BTreeMap<(EventHash, [u8; 8]), ThreadSenderRow>,
    /// Events that it redacts.
    redacted: BTreeSet<Rix>,
}

/// Whether a relation comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
}

impl Step {
    fn apply(self, count: &mut u32) {
        *count = match self {
            Self::Add => count.saturating_add(1),
            Self::Remove => count.saturating_sub(1),
        };
    }
}

impl Change {
    /// Adds the relation of an accepted event, unless the event was redacted while it was an outlier.
    pub(super) async fn relate(&mut self, relation: &RelationRow, event: &Judged, rix: Rix) -> Result<(), ReadError> {
        if event.known_as.is_some() && self.is_redacted(rix, &relation.own_hash).await? {
            return Ok(());
        }
        let target = self.target_hash(&relation.target);
        let place = (RelationKind::of(&relation.rel_type), event.rank, rix);
        self.batch.put::<Relations>(&(self.memory.info.nid, target, place.0, place.1, place.2), relation);
        self.relations.rows.insert((target, place), true);
        self.count(target, relation, place, Step::Add).await
    }

    /// Takes away the relation of an event that is redacted, if it has one that still counts.
    pub(crate) async fn unrelate(&mut self, rix: Rix) -> Result<(), ReadError> {
        self.relations.redacted.insert(rix);
        let event = self.event(rix).await?;
        let Some(relation) = relation_of(&event.pdu, self.context.storage.hash()) else { return Ok(()) };
        let target = self.target_hash(&relation.target);
        let place = (RelationKind::of(&relation.rel_type), event.header.rank, rix);
        let key = (self.memory.info.nid, target, place.0, place.1, place.2);
        let counts = match self.relations.rows.get(&(target, place)) {
            Some(added) => *added,
            None => self.view.contains::<Relations>(&key).await?,
        };
        if !counts {
            return Ok(());
        }
        self.batch.delete::<Relations>(&key);
        self.relations.rows.insert((target, place), false);
        self.count(target, &relation, place, Step::Remove).await
    }

    async fn is_redacted(&self, rix: Rix, own_hash: &EventHash) -> Result<bool, ReadError> {
        let range = KeyRange::prefix(&(self.memory.info.nid, *own_hash));
        let stored = self.view.scan_keys::<Redactions>(&range, 1, Direction::Forward).await?;
        Ok(!stored.keys.is_empty() || self.relations.redacted.contains(&rix))
    }

    async fn count(
        &mut self,
        target: EventHash,
        relation: &RelationRow,
        place: Place,
        step: Step,
    ) -> Result<(), ReadError> {
        let key = (self.memory.info.nid, target);
        let mut counts = match self.relations.counts.get(&target) {
            Some(counts) => counts.clone(),
            None => self.view.get::<RelationCounts>(&key).await?.unwrap_or_default(),
        };
        match place.0 {
            RelationKind::Other => return Ok(()),
            RelationKind::Replace => step.apply(&mut counts.replacements),
            RelationKind::Reference => step.apply(&mut counts.references),
            RelationKind::Thread => {
                step.apply(&mut counts.threaded);
                self.count_sender(target, &relation.sender, step).await?;
                self.move_thread(target, relation, (place.1, place.2), &mut counts, step).await?;
            }
        }
        if counts == RelationCountRow::default() {
            self.batch.delete::<RelationCounts>(&key);
        } else {
            self.batch.put::<RelationCounts>(&key, &counts);
        }
        self.relations.counts.insert(target, counts);
        Ok(())
    }

    async fn count_sender(&mut self, root: EventHash, sender: &str, step: Step) -> Result<(), ReadError> {
        let sender = self.context.storage.hash().hash8(&[sender.as_bytes()]);
        let key = (self.memory.info.nid, root, sender);
        let mut row = match self.relations.senders.get(&(root, sender)) {
            Some(row) => *row,
            None => self.view.get::<ThreadSenders>(&key).await?.unwrap_or_default(),
        };
        step.apply(&mut row.count);
        if row.count == 0 {
            self.batch.delete::<ThreadSenders>(&key);
        } else {
            self.batch.put::<ThreadSenders>(&key, &row);
        }
        self.relations.senders.insert((root, sender), row);
        Ok(())
    }

    /// Keeps a thread where its newest event is.
    async fn move_thread(
        &mut self,
        root: EventHash,
        relation: &RelationRow,
        place: (Rank, Rix),
        counts: &mut RelationCountRow,
        step: Step,
    ) -> Result<(), ReadError> {
        let latest = match step {
            Step::Add => counts.latest.max(Some(place)),
            Step::Remove if counts.latest == Some(place) => self.newest_of_thread(root).await?,
            Step::Remove => counts.latest,
        };
        if latest == counts.latest {
            return Ok(());
        }
        let room = self.memory.info.nid;
        if let Some((rank, rix)) = counts.latest {
            self.batch.delete::<Threads>(&(room, rank, rix));
        }
        if let Some((rank, rix)) = latest {
            self.batch.put::<Threads>(&(room, rank, rix), &ThreadRow { root: relation.target.clone() });
        }
        counts.latest = latest;
        Ok(())
    }

    /// The place of the newest event of a thread, as this change leaves it.
    async fn newest_of_thread(&self, root: EventHash) -> Result<Option<(Rank, Rix)>, ReadError> {
        let first = (RelationKind::Thread, Rank(0), Rix(0));
        let last = (RelationKind::Thread, Rank(u64::MAX), Rix(u32::MAX));
        let changed = self.relations.rows.range((root, first)..=(root, last));
        let added = changed.rev().find(|(_, added)| **added).map(|((_, (_, rank, rix)), _)| (*rank, *rix));
        let mut rest = Some(KeyRange::prefix(&(self.memory.info.nid, root, RelationKind::Thread)));
        while let Some(range) = rest {
            let page = self.view.scan_keys::<Relations>(&range, PAGE, Direction::Backward).await?;
            for (_, _, kind, rank, rix) in page.keys {
                if self.relations.rows.get(&(root, (kind, rank, rix))) != Some(&false) {
                    return Ok(added.max(Some((rank, rix))));
                }
            }
            rest = page.rest;
        }
        Ok(added)
    }
}
