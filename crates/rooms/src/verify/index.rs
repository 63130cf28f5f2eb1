//! Relations and redactions: what events say of others, and the rows that find it.

mod relations;

use std::collections::BTreeMap;

use primitives::Rix;
use storage::{
    KeyRange, ReadError,
    schema::rooms::{PendingRedactions, Redactions},
};

use super::{FaultKind, Pages, RoomCheck};
use crate::{change::Change, load::StoredEvent, persist::MAX_PENDING};

/// What the events gone through say there must be.
#[derive(Debug, Default)]
pub(super) struct Expected {
    relations: relations::Expected,
    redactions: u64,
    pending: u64,
    /// How many redactions came before their target, by the target's hash.
    early: BTreeMap<[u8; 16], usize>,
}

impl RoomCheck<'_> {
    /// Relations and redactions of one event.
    pub(super) async fn check_index(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        if !self.order.get(rix).is_some_and(super::order::Seen::is_visible) {
            return Ok(());
        }
        self.check_relation(rix, event).await?;
        if event.pdu.redacts().is_some() { self.check_redaction(rix, event).await } else { Ok(()) }
    }

    async fn check_redaction(&mut self, rix: Rix, event: &StoredEvent) -> Result<(), ReadError> {
        let Some(target) = event.pdu.redacts() else { return Ok(()) };
        let key = (self.info.nid, self.change.target_hash(target.as_str()), rix);
        let applied = self.view.contains::<Redactions>(&key).await?;
        let pending = self.view.contains::<PendingRedactions>(&key).await?;
        self.index.redactions += u64::from(applied);
        self.index.pending += u64::from(pending);
        let fits = match self.change.find(target).await? {
            None => pending && !applied,
            Some(target) => {
                let header = self.change.header(target).await?;
                let late = target > rix;
                let is_visible = header.verdict == storage::schema::rooms::Verdict::Accepted
                    && header.kind != storage::schema::rooms::EventKind::Outlier;
                let early = self.index.early.entry(key.1).or_default();
                *early += usize::from(late);
                if pending && late && (!is_visible || *early > MAX_PENDING) {
                    // What is not shown needs no redaction, and no more than so many wait for an event.
                    !applied
                } else {
                    let slice = self.change.redaction_slice(event.header.root_before).await?;
                    !pending && applied == Change::redaction_applies(&event.pdu, &slice, &header)
                }
            }
        };
        if !fits {
            self.event_fault(
                FaultKind::Redactions,
                rix,
                event,
                "it is not where redactions that apply, or wait, are found",
            );
        }
        Ok(())
    }

    /// There is nothing else in the indexes.
    pub(super) async fn index_rows(&mut self) -> Result<(), ReadError> {
        self.relation_rows().await?;
        let Expected { redactions, pending, .. } = self.index;
        let room = KeyRange::prefix(&(self.info.nid,));
        for (kind, expected, found) in [
            (FaultKind::Redactions, redactions, self.count::<Redactions>(&room).await?),
            (FaultKind::Redactions, pending, self.count::<PendingRedactions>(&room).await?),
        ] {
            if found != expected {
                self.fault(kind, format!("{found} rows are kept, and the events make {expected}"));
            }
        }
        Ok(())
    }

    pub(super) async fn count<T: storage::Table>(&self, range: &KeyRange) -> Result<u64, ReadError> {
        let mut count = 0;
        let mut pages = Pages::<T>::of(range.clone());
        while let Some(page) = pages.next(self.view).await? {
            count += page.len() as u64;
        }
        Ok(count)
    }
}
