//! The store: opening, views, commits.

use std::{path::PathBuf, sync::Arc};

use primitives::{KeyedHash, Random, SharedClock, StreamPosition};
use tokio::sync::watch;

use crate::{
    Batch, MAX_VALUE_BYTES, MemoryDisk, Op, OpenError, Options, ReadError, TableId, Text, View,
    committer::{Committer, Shared},
    open,
    schema::{self, meta::Counters},
};

/// The most bytes that the keys and values of one batch may have together.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An assert did not hold: the number is its place in [`Batch::asserts`]. Nothing was written.
    #[error("assert {0} of the batch does not hold")]
    Conflict(usize),
    /// The batch is over the bound on its size, [`MAX_BATCH_BYTES`].
    #[error("a batch of {0} bytes is over the limit")]
    TooLarge(usize),
    /// A value is over [`MAX_VALUE_BYTES`], and its table is not declared `large`.
    #[error("a value of {bytes} bytes is over the limit of table {table}")]
    ValueTooLarge {
        /// The table.
        table: &'static str,
        /// The value's length.
        bytes: usize,
    },
    /// The store cannot write any more; the server must end.
    #[error("the store has failed: {0}")]
    Failed(String),
}

/// Why a number could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum NumberError {
    /// The series could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The series could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// All 2³² − 1 numbers of the series have been drawn.
    #[error("the series {0} has no numbers left")]
    Exhausted(String),
}

/// Why the store could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("the store could not be copied: {0}")]
pub struct CopyError(String);

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) committer: Committer,
    pub(crate) hash: KeyedHash,
    pub(crate) epoch: u64,
    pub(crate) boot_id: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Storage").field(&self.position()).finish()
    }
}

impl Storage {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Opens a store, or makes it. Recovers, migrates and syncs, so it may block for seconds: call it at the start, not in the middle of async work.
    pub fn open(options: Options, clock: &SharedClock, random: &Random) -> Result<Self, OpenError> {
        open::open(options, open::BUILD, clock, random)
    }

    /// An empty store in memory, of the server `localhost`, for tests. Its commits are done in the caller, without a thread.
    pub fn memory(clock: &SharedClock, random: &Random) -> Self {
        let options = Options::memory(&MemoryDisk::new(), "localhost");
        Self::open(options, clock, random).expect("an empty store in memory opens")
    }

    /// A snapshot of everything committed so far.
    pub fn view(&self) -> View {
        View(self.0.shared.seen.load_full())
    }

    /// Writes a batch, durably, and answers with its position. When this returns, every later view shows the batch.
    ///
    /// A caller that stops waiting does not take the batch back: it may be written or not.
    pub async fn commit(&self, batch: Batch) -> Result<StreamPosition, CommitError> {
        check_sizes(&batch)?;
        self.0.committer.commit(batch).await
    }

    /// Draws the next number of a series: 1, 2, 3 … Durable, and never drawn again.
    pub async fn next_number(&self, series: &str) -> Result<u32, NumberError> {
        let key = (Text::new(series),);
        loop {
            let drawn = self.view().get::<Counters>(&key).await?;
            let number =
                drawn.unwrap_or_default().checked_add(1).ok_or_else(|| NumberError::Exhausted(series.to_owned()))?;
            let mut batch = Batch::new();
            batch.assert_unchanged::<Counters>(&key, drawn.as_ref()).put::<Counters>(&key, &number);
            match self.commit(batch).await {
                Ok(_) => return Ok(number),
                // Somebody else drew it; the conflict is over once seen, and each such round is another's success.
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The position of the newest batch that views show.
    pub fn position(&self) -> StreamPosition {
        *self.0.shared.visible.borrow()
    }

    /// Tells of every new position.
    pub fn subscribe(&self) -> watch::Receiver<StreamPosition> {
        self.0.shared.visible.subscribe()
    }

    /// Waits until the store can no longer write, and says why. The server must then end: nothing is acknowledged any more.
    pub async fn failed(&self) -> String {
        let mut failed = self.0.shared.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the committer has ended".to_owned(),
        }
    }

    /// Commits what is on its way, then puts the data in order for a quick start. Every commit after this fails; views go on working.
    /// The directory is free once every clone of the store and every view of it is dropped.
    pub async fn close(&self) -> Result<(), CommitError> {
        self.0.committer.close().await
    }

    /// Copies the store while it is in use, into a directory that must not exist yet. The copy holds everything up to the position that is
    /// answered, perhaps some batches more, and no part of a batch; it opens like a store that was killed. A store in memory can't be copied.
    ///
    /// # Errors
    /// A directory that exists or can't be written.
    pub async fn copy_to(&self, directory: PathBuf) -> Result<StreamPosition, CopyError> {
        let seen = self.0.shared.seen.load_full();
        let position = seen.position;
        let copied = tokio::task::spawn_blocking(move || seen.snapshot.copy_database(&directory)).await;
        match copied {
            Ok(Ok(())) => Ok(position),
            Ok(Err(error)) => Err(CopyError(error.0)),
            Err(error) => Err(CopyError(error.to_string())),
        }
    }

    /// The keyed hash of this database, for table keys.
    pub fn hash(&self) -> KeyedHash {
        self.0.hash
    }

    /// Changes when the database is restored from a copy.
    pub fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// Changes at every start.
    pub fn boot_id(&self) -> u64 {
        self.0.boot_id
    }
}

fn check_sizes(batch: &Batch) -> Result<(), CommitError> {
    if batch.size() > MAX_BATCH_BYTES {
        return Err(CommitError::TooLarge(batch.size()));
    }
    let too_large = |op: &Op| match op {
        Op::Put { table, value, .. } if value.len() > MAX_VALUE_BYTES && !schema::is_large(*table) => {
            Some((*table, value.len()))
        }
        _ => None,
    };
    match batch.ops().iter().find_map(too_large) {
        Some((table, bytes)) => Err(value_too_large(table, bytes)),
        None => Ok(()),
    }
}

fn value_too_large(table: TableId, bytes: usize) -> CommitError {
    CommitError::ValueTooLarge { table: schema::name(table), bytes }
}
