//! The engines behind the store: an ordered map of bytes that takes writes as a whole and gives out snapshots.
//!
//! A *row key* is the table's number followed by the key. The engines know rows, not tables or batches; only the committer writes.

mod memory;
mod rocks;

use std::{ops::ControlFlow, path::Path};

pub use memory::MemoryDisk;
pub(crate) use memory::{Memory, Rows};
pub(crate) use rocks::{Rocks, RocksOptions};

use crate::Direction;

/// What an engine says when it cannot read or write.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct EngineError(pub(crate) String);

/// One change to the rows.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// Stores a row.
    Put {
        /// The row key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a row, if it is there.
    Delete {
        /// The row key.
        key: Vec<u8>,
    },
    /// Removes the rows of a range that lies in one table.
    DeleteRange {
        /// The first row key.
        start: Vec<u8>,
        /// The row key after the last.
        end: Vec<u8>,
    },
}

/// Where rows are kept.
#[derive(Debug)]
pub(crate) enum Engine {
    /// On disk.
    Rocks(Rocks),
    /// In memory.
    Memory(Memory),
}

impl Engine {
    /// Applies all the writes or none. They are not durable before [`Self::sync`] has returned.
    pub(crate) fn write(&self, writes: Vec<Write>) -> Result<(), EngineError> {
        match self {
            Self::Rocks(rocks) => rocks.write(writes),
            Self::Memory(memory) => {
                memory.write(writes);
                Ok(())
            }
        }
    }

    /// Makes everything written so far durable.
    pub(crate) fn sync(&self) -> Result<(), EngineError> {
        match self {
            Self::Rocks(rocks) => rocks.sync(),
            Self::Memory(memory) => memory.sync(),
        }
    }

    /// Everything written so far, as it is now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        match self {
            Self::Rocks(rocks) => Snapshot::Rocks(rocks.snapshot()),
            Self::Memory(memory) => Snapshot::Memory(memory.snapshot()),
        }
    }

    /// What has gone wrong in the background, if anything has.
    pub(crate) fn failure(&self) -> Option<String> {
        match self {
            Self::Rocks(rocks) => rocks.failure(),
            Self::Memory(_) => None,
        }
    }

    /// Puts everything in order for a quick start next time. Nothing is written after this.
    pub(crate) fn close(&self) -> Result<(), EngineError> {
        match self {
            Self::Rocks(rocks) => rocks.close(),
            Self::Memory(_) => Ok(()),
        }
    }
}

/// The rows as they were at one moment.
#[derive(Debug)]
pub(crate) enum Snapshot {
    /// On disk.
    Rocks(rocks::RocksSnapshot),
    /// In memory.
    Memory(Rows),
}

/// Takes one row of a scan: its row key and its value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

impl Snapshot {
    /// Copies the database that this is a snapshot of, as it is now or a moment later, to a directory that must not exist yet.
    pub(crate) fn copy_database(&self, directory: &Path) -> Result<(), EngineError> {
        match self {
            Self::Rocks(snapshot) => snapshot.copy_database(directory),
            Self::Memory(_) => Err(EngineError("a store in memory has no files".to_owned())),
        }
    }

    /// Reads a row where it lies.
    pub(crate) fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, EngineError> {
        match self {
            Self::Rocks(snapshot) => snapshot.get(key, read),
            Self::Memory(rows) => Ok(rows.get(key).map(|value| read(value))),
        }
    }

    /// Reads several rows of one table where they lie; `read` is told each one's place among the keys.
    pub(crate) fn multi_get(
        &self,
        keys: &[Vec<u8>],
        mut read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), EngineError> {
        match self {
            Self::Rocks(snapshot) => snapshot.multi_get(keys, read),
            Self::Memory(rows) => {
                for (index, key) in keys.iter().enumerate() {
                    read(index, rows.get(key.as_slice()).map(|value| &**value));
                }
                Ok(())
            }
        }
    }

    /// Visits the rows from `start` (inclusive) to `end` (exclusive), both in one table, until told to stop.
    pub(crate) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        if start >= end {
            return Ok(());
        }
        match self {
            Self::Rocks(snapshot) => snapshot.scan(start, end, direction, visit),
            Self::Memory(rows) => {
                memory::scan(rows, start, end, direction, visit);
                Ok(())
            }
        }
    }

    /// Whether a long read should leave the async threads alone.
    pub(crate) fn may_block(&self) -> bool {
        matches!(self, Self::Rocks(_))
    }
}
