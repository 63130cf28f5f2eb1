//! Rows in memory, on a disk that is only pretended: what is synced outlives the store.

use std::{ops::Bound, sync::Arc};

use parking_lot::Mutex;

use super::{EngineError, Visit, Write};
use crate::Direction;

/// The rows as an immutable map: a clone is a snapshot and costs nothing.
pub(crate) type Rows = imbl::OrdMap<Vec<u8>, Arc<[u8]>>;

#[derive(Debug, Default)]
struct Platter {
    durable: Rows,
    /// Counts the stores opened on the disk; only the newest may write.
    openings: u64,
}

/// What survives when a store in memory is dropped or made to crash: everything that it had synced.
///
/// A store is opened on it with [`crate::Options::memory`]. A store that is opened later takes the disk over; the earlier one fails at its next commit,
/// so that tasks left over from before a simulated crash cannot write.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Platter>>);

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A second disk with the same content, as a backup would be.
    #[must_use]
    pub fn copy(&self) -> Self {
        let durable = self.0.lock().durable.clone();
        Self(Arc::new(Mutex::new(Platter { durable, openings: 0 })))
    }
}

/// The engine: what is written, synced or not.
#[derive(Debug)]
pub(crate) struct Memory {
    disk: MemoryDisk,
    opening: u64,
    written: Mutex<Rows>,
}

impl Memory {
    /// Takes over a disk and what is on it.
    pub(crate) fn open(disk: &MemoryDisk) -> Self {
        let mut platter = disk.0.lock();
        platter.openings += 1;
        Self { disk: disk.clone(), opening: platter.openings, written: Mutex::new(platter.durable.clone()) }
    }

    pub(super) fn write(&self, writes: Vec<Write>) {
        let mut rows = self.written.lock();
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    rows.insert(key, value.into());
                }
                Write::Delete { key } => {
                    rows.remove(&key);
                }
                Write::DeleteRange { start, end } => {
                    let gone: Vec<_> = rows.range(start..end).map(|(key, _)| key.clone()).collect();
                    for key in gone {
                        rows.remove(&key);
                    }
                }
            }
        }
    }

    pub(super) fn sync(&self) -> Result<(), EngineError> {
        let rows = self.written.lock().clone();
        let mut platter = self.disk.0.lock();
        if platter.openings != self.opening {
            return Err(EngineError("another store has been opened on the disk".to_owned()));
        }
        platter.durable = rows;
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Rows {
        self.written.lock().clone()
    }
}

pub(super) fn scan(rows: &Rows, start: &[u8], end: &[u8], direction: Direction, visit: &mut Visit<'_>) {
    let mut range = rows.range::<_, [u8]>((Bound::Included(start), Bound::Excluded(end)));
    loop {
        let row = match direction {
            Direction::Forward => range.next(),
            Direction::Backward => range.next_back(),
        };
        let Some((key, value)) = row else { return };
        if visit(key, value).is_break() {
            return;
        }
    }
}
