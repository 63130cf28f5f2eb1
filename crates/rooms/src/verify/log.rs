//! The room's log: every accepted live event once, in order, with what it changed of the current state (I10).

use std::collections::{BTreeMap, BTreeSet};

use primitives::{NodeId, Rix, Slot, StreamPosition};
use storage::{
    KeyRange, ReadError, Text,
    schema::rooms::{LastDeviceChanges, RoomLog, RoomLogEntry},
};

use super::{FaultKind, Pages, RoomCheck};
use crate::state::EMPTY;

/// How far the log has been read.
struct Read {
    root: NodeId,
    events: BTreeSet<Rix>,
    /// Where the log tells of somebody's devices.
    device_changes: BTreeMap<String, StreamPosition>,
    /// Where the state was last reset.
    reset_at: Option<StreamPosition>,
}

impl RoomCheck<'_> {
    /// Reads the log from its beginning.
    pub(super) async fn log(&mut self) -> Result<(), ReadError> {
        let mut read = Read { root: EMPTY, events: BTreeSet::new(), device_changes: BTreeMap::new(), reset_at: None };
        let mut pages = Pages::<RoomLog>::of(KeyRange::prefix(&(self.info.nid,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((_, position, _), entry) in page {
                let checked = self.entry(position, &entry, &mut read).await;
                self.readable(checked)?;
            }
        }
        self.device_changes(read.device_changes).await?;
        let live = self.order.all().filter(|(_, seen)| seen.is_live()).count() as u64;
        let logged = read.events.len() as u64;
        if logged != live {
            self.fault(FaultKind::Log, format!("the log has {logged} events, and {live} were accepted"));
        }
        if read.root != self.head.root && !self.change.trees.diff(read.root, self.head.root).await?.is_empty() {
            self.fault(FaultKind::Log, "the log does not end with the current state".to_owned());
        }
        Ok(())
    }

    /// The newest change of each user's devices is known by where it stands, and no other.
    async fn device_changes(&mut self, mut logged: BTreeMap<String, StreamPosition>) -> Result<(), ReadError> {
        let mut pages = Pages::<LastDeviceChanges>::of(KeyRange::prefix(&(self.info.nid,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((_, Text(user)), last) in page {
                if logged.remove(&user) != Some(last.position) {
                    self.fault(
                        FaultKind::Log,
                        format!("the log does not tell of the devices of {user} where it should"),
                    );
                }
            }
        }
        for user in logged.into_keys() {
            self.fault(FaultKind::Log, format!("nothing says where the log tells of the devices of {user}"));
        }
        Ok(())
    }

    async fn entry(
        &mut self,
        position: StreamPosition,
        entry: &RoomLogEntry,
        read: &mut Read,
    ) -> Result<(), ReadError> {
        match entry {
            RoomLogEntry::Event { rix, rank, root, changed, .. } => {
                let fits = self
                    .order
                    .get(*rix)
                    .is_some_and(|seen| seen.is_live() && seen.position == position && seen.rank == *rank);
                if !read.events.insert(*rix) || !fits {
                    self.fault(FaultKind::Log, format!("the log has event {rix} at {position}, where it is not"));
                }
                // A room that has come back whole: with its state, its extremities were replaced.
                if changed.is_none() && read.reset_at == Some(position) {
                    self.order.replaced_at = Some(position);
                }
                let before = std::mem::replace(&mut read.root, *root);
                self.check_changed(*rix, before, *root, changed.as_deref()).await
            }
            RoomLogEntry::Reset { old, new } | RoomLogEntry::Whole { old, new } => {
                let before = std::mem::replace(&mut read.root, *new);
                read.reset_at = Some(position);
                if before != *old {
                    self.fault(
                        FaultKind::Log,
                        format!("the log resets state {old} at {position}, where it is {before}"),
                    );
                }
                Ok(())
            }
            RoomLogEntry::DeviceChange { user_id } => {
                if read.device_changes.insert(user_id.clone(), position).is_some() {
                    self.fault(FaultKind::Log, format!("the log tells twice of the devices of {user_id}"));
                }
                Ok(())
            }
        }
    }

    async fn check_changed(
        &mut self,
        rix: Rix,
        before: NodeId,
        after: NodeId,
        listed: Option<&[Slot]>,
    ) -> Result<(), ReadError> {
        let Some(listed) = listed else { return Ok(()) };
        let changed = self.change.trees.diff(before, after).await?;
        let changed: BTreeSet<_> = changed.into_iter().map(|change| change.slot).collect();
        if changed != listed.iter().copied().collect() {
            self.fault(
                FaultKind::Log,
                format!("the log lists {listed:?} as changed with event {rix}, not {changed:?}"),
            );
        }
        Ok(())
    }
}
