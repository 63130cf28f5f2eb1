//! Relations, and what is counted of them.

use std::collections::BTreeMap;

use primitives::{Rank, Rix};
use storage::{
    Direction, KeyRange, ReadError, Table,
    schema::{
        history::{RelationCountRow, RelationCounts, ThreadRow, ThreadSenderRow, ThreadSenders, Threads},
        rooms::{Redactions, RelationKind, Relations},
    },
};

use super::super::{FaultKind, RoomCheck};
use crate::{load::StoredEvent, persist::relation_of};

type EventHash = [u8; 16];

/// What the events gone through say there must be.
#[derive(Debug, Default)]
pub(super) struct Expected {
    rows: u64,
    counts: BTreeMap<EventHash, RelationCountRow>,
    senders: BTreeMap<(EventHash, [u8; 8]), ThreadSenderRow>,
    roots: BTreeMap<EventHash, String>,
}

impl RoomCheck<'_> {
    /// The relation of one visible event: it is found unless the event is redacted.
    pub(super) async fn check_relation(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        let hash = self.context.storage.hash();
        let Some(relation) = relation_of(&event.pdu, hash) else { return Ok(()) };
        let (room, target) = (self.info.nid, self.change.target_hash(&relation.target));
        let redactions = KeyRange::prefix(&(room, relation.own_hash));
        if !self.view.scan_keys::<Redactions>(&redactions, 1, Direction::Forward).await?.keys.is_empty() {
            return Ok(());
        }
        let kind = RelationKind::of(&relation.rel_type);
        let place = (event.header.rank, rix);
        if self.view.get::<Relations>(&(room, target, kind, place.0, place.1)).await?.as_ref() != Some(&relation) {
            self.event_fault(FaultKind::Relations, rix, event, "its relation is not found");
        }
        let expected = &mut self.index.relations;
        expected.rows += 1;
        expected.add(kind, target, place);
        if kind == RelationKind::Thread {
            let sender = hash.hash8(&[relation.sender.as_bytes()]);
            expected.senders.entry((target, sender)).or_default().count += 1;
            expected.roots.insert(target, relation.target);
        }
        Ok(())
    }

    /// What is counted of relations is what the events make, and there is nothing else.
    pub(super) async fn relation_rows(&mut self) -> Result<(), ReadError> {
        let room = self.info.nid;
        let expected = std::mem::take(&mut self.index.relations);
        let mut threads = 0;
        for (target, counts) in &expected.counts {
            let mut fits = self.view.get::<RelationCounts>(&(room, *target)).await?.as_ref() == Some(counts);
            if let Some((rank, rix)) = counts.latest {
                threads += 1;
                let root = expected.roots.get(target).cloned().unwrap_or_default();
                fits &= self.view.get::<Threads>(&(room, rank, rix)).await? == Some(ThreadRow { root });
            }
            if !fits {
                self.fault(FaultKind::Relations, "what relates to an event is not counted right".to_owned());
            }
        }
        for ((root, sender), row) in &expected.senders {
            if self.view.get::<ThreadSenders>(&(room, *root, *sender)).await?.as_ref() != Some(row) {
                self.fault(FaultKind::Relations, "a sender of a thread is not counted right".to_owned());
            }
        }
        let (counts, senders) = (expected.counts.len() as u64, expected.senders.len() as u64);
        self.count_relations::<Relations>(expected.rows).await?;
        self.count_relations::<RelationCounts>(counts).await?;
        self.count_relations::<ThreadSenders>(senders).await?;
        self.count_relations::<Threads>(threads).await
    }

    async fn count_relations<T: Table>(&mut self, expected: u64) -> Result<(), ReadError> {
        let found = self.count::<T>(&KeyRange::prefix(&(self.info.nid,))).await?;
        if found != expected {
            let what = format!("{found} rows of {} are kept, and the events make {expected}", T::NAME);
            self.fault(FaultKind::Relations, what);
        }
        Ok(())
    }
}

impl Expected {
    fn add(&mut self, kind: RelationKind, target: EventHash, place: (Rank, Rix)) {
        if kind == RelationKind::Other {
            return;
        }
        let counts = self.counts.entry(target).or_default();
        match kind {
            RelationKind::Other => {}
            RelationKind::Replace => counts.replacements += 1,
            RelationKind::Reference => counts.references += 1,
            RelationKind::Thread => {
                counts.threaded += 1;
                counts.latest = counts.latest.max(Some(place));
            }
        }
    }
}
