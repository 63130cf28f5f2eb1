//! What is kept of a state that is not whole: notes of events that are there, and none once the state is whole.

use storage::{
    KeyRange, ReadError,
    schema::rooms::{EventKind, PartialEvents, PartialNote, PartialNotes, PartialRooms, PartialStage},
};

use super::{FaultKind, Pages, RoomCheck};

impl RoomCheck<'_> {
    /// Whether what arrived while the state was partial is being judged again.
    pub(super) async fn is_replaying(&self) -> Result<bool, ReadError> {
        let row = self.view.get::<PartialRooms>(&(self.info.nid,)).await?;
        Ok(row.is_some_and(|row| matches!(row.value.stage, PartialStage::Replaying { .. })))
    }

    pub(super) async fn partial(&mut self) -> Result<(), ReadError> {
        let row = self.view.get::<PartialRooms>(&(self.info.nid,)).await?;
        let is_open = row.as_ref().is_some_and(|row| !matches!(row.value.stage, PartialStage::Whole { .. }));
        let mut notes = 0_u64;
        let mut pages = Pages::<PartialEvents>::of(KeyRange::prefix(&(self.info.nid,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((_, number), note) in page {
                notes += 1;
                let is_live = |rix| self.order.get(rix).is_some_and(|seen| seen.kind == EventKind::Timeline);
                if !is_live(note.rix) {
                    let what = format!("note {number} is of event {}, which did not arrive live", note.rix);
                    self.fault(FaultKind::State, what);
                }
                for prev in
                    note.prev.iter().filter(|prev| self.order.get(**prev).is_none()).copied().collect::<Vec<_>>()
                {
                    self.fault(FaultKind::State, format!("note {number} names event {prev}, which is not there"));
                }
            }
        }
        if is_open != (notes > 0) {
            let what = format!("its state is {} and {notes} events wait", if is_open { "partial" } else { "whole" });
            self.fault(FaultKind::State, what);
        }
        let mut pages = Pages::<PartialNotes>::of(KeyRange::prefix(&(self.info.nid, PartialNote::Server)));
        if row.is_none() && pages.next(self.view).await?.is_some_and(|page| !page.is_empty()) {
            self.fault(FaultKind::State, "servers are noted of a state that never was partial".to_owned());
        }
        Ok(())
    }
}
