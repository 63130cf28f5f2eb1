//! Full-text search over the events of rooms (specification, client-server API, "Server Side Search").
//!
//! The index is derived from the rooms and can be thrown away: it says how far it has read each room, catches up in the
//! background and, for the rooms that a request searches, before it answers. It knows words only; whether a reader may see what it finds,
//! the rooms say ([`rooms::visibility`]), event by event, so that nothing hidden is found, counted or ranked.

mod answer;
mod follow;
mod index;
mod place;
mod request;
mod words;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use primitives::{Rix, RoomNid, SharedClock};
use rooms::Reads;
use storage::{ReadError, Storage};

use index::Index;

pub use answer::{Group, Hit, RoomEvents};
pub use index::IndexError;
pub use request::{GroupBy, Key, Order, SearchRequest};

/// What the configuration decides about searching.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file of the index; `None`: in memory, for tests.
    pub file: Option<PathBuf>,
    /// Memory for the index's cache, in bytes.
    pub memory_bytes: u64,
}

/// Why a search was not made.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// There is no word in the term (400, `M_INVALID_PARAM`).
    #[error("the search term has no word in it")]
    NoWords,
    /// The token of the next page is none that this server hands out (400, `M_INVALID_PARAM`).
    #[error("not a token of a search")]
    BadToken,
    /// The index failed (500).
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The store could not be read (500).
    #[error(transparent)]
    Storage(#[from] ReadError),
    /// A thread of the search ended without an answer (500).
    #[error("the search was interrupted")]
    Interrupted,
}

/// The search of a server. Cheap to clone.
#[derive(Clone)]
pub struct Search(Arc<Inner>);

struct Inner {
    reads: Reads,
    clock: SharedClock,
    index: Arc<Index>,
    /// How far each room has been read, as in the index.
    cursors: Mutex<HashMap<RoomNid, Rix>>,
    /// Who reads rooms into the index: one at a time.
    reading: tokio::sync::Mutex<()>,
    indexed: AtomicU64,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Search")
    }
}

impl Search {
    /// Opens the index of a store. One that is damaged, or of another store, is made anew.
    pub async fn open(
        storage: &Storage,
        reads: Reads,
        clock: SharedClock,
        options: Options,
    ) -> Result<Self, SearchError> {
        let epoch = storage.epoch();
        let opened = blocking(move || open(&options, epoch)).await?;
        let (index, cursors) = opened;
        let cursors = Mutex::new(cursors.into_iter().collect());
        let (index, reading) = (Arc::new(index), tokio::sync::Mutex::default());
        Ok(Self(Arc::new(Inner { reads, clock, index, cursors, reading, indexed: AtomicU64::new(0) })))
    }

    /// How many events were put into the index since it was opened.
    pub fn indexed(&self) -> u64 {
        self.0.indexed.load(Ordering::Relaxed)
    }

    /// Puts the index in order for a quick start.
    pub async fn close(&self) -> Result<(), SearchError> {
        let index = Arc::clone(&self.0.index);
        blocking(move || index.close()).await
    }
}

type Opened = (Index, Vec<(RoomNid, Rix)>);

fn open(options: &Options, epoch: u64) -> Result<Opened, IndexError> {
    let open = || {
        let index = Index::open(options.file.as_deref(), epoch, options.memory_bytes)?;
        let cursors = index.cursors()?;
        Ok((index, cursors))
    };
    open().or_else(|error: IndexError| {
        let Some(file) = &options.file else { return Err(error) };
        tracing::warn!(%error, "the search index is damaged: it is made anew");
        remove(file);
        open()
    })
}

/// Removes an index; the next start reads all rooms into a new one.
pub fn remove(file: &std::path::Path) {
    for ending in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        // What is not there needs no removing, and what can't be removed shows when the index is opened.
        let _ = std::fs::remove_file(PathBuf::from(name));
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<R: Send + 'static>(
    run: impl FnOnce() -> Result<R, IndexError> + Send + 'static,
) -> Result<R, SearchError> {
    tokio::task::spawn_blocking(run).await.map_err(|_| SearchError::Interrupted)?.map_err(SearchError::Index)
}
