//! Opening a store: where it is, whose it is, which schema it follows.

use std::path::{Path, PathBuf};

use primitives::{KeyedHash, Random, SharedClock, StreamPosition};

use crate::{
    Batch, Faults, KeyBytes, MemoryDisk, Storage, Table, Value,
    committer::{Committer, Core, Shared},
    engine::{Engine, Memory, Rocks, RocksOptions, Snapshot},
    migrate::{self, MIGRATIONS, Migration},
    schema::meta::{Database, DatabaseRow, Position, SCHEMA},
    store::Inner,
    view::Seen,
};

/// Positions handed out in a millisecond, at the least: what a start adds up to, so that no position is used twice even if the newest data is lost.
const POSITIONS_PER_MS: u64 = 256;

/// When a commit is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it would survive a loss of power.
    #[default]
    Sync,
    /// When the operating system has it: it survives the end of the process, not that of the machine.
    Os,
}

/// Where a store is kept.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a directory of its own, made if it is missing.
    Directory(PathBuf),
    /// In memory.
    Memory(MemoryDisk),
}

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub place: Place,
    /// The server whose data it holds; a store of another server is refused.
    pub server_name: String,
    /// When commits are acknowledged.
    pub durability: Durability,
    /// What caches and write buffers may take together, roughly.
    pub memory_budget_bytes: usize,
    /// The data was restored from a copy: clients' sync tokens are made void, so that they start afresh.
    pub restored: bool,
    /// Faults for tests.
    pub faults: Faults,
}

impl Options {
    /// A store in a directory: durable, with a budget of 256 MiB.
    pub fn directory(path: impl Into<PathBuf>, server_name: &str) -> Self {
        Self::at(Place::Directory(path.into()), server_name)
    }

    /// A store on a pretended disk in memory.
    pub fn memory(disk: &MemoryDisk, server_name: &str) -> Self {
        Self::at(Place::Memory(disk.clone()), server_name)
    }

    fn at(place: Place, server_name: &str) -> Self {
        Self {
            place,
            server_name: server_name.to_owned(),
            durability: Durability::Sync,
            memory_budget_bytes: 256 << 20,
            restored: false,
            faults: Faults::none(),
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It holds another server's data.
    #[error("the data belongs to the server {found}, not to {expected}")]
    OtherServer {
        /// The server whose data it is.
        found: String,
        /// The server that it was opened for.
        expected: String,
    },
    /// It was written by a newer version of Sundial.
    #[error("the data follows schema {found}, and this version of Sundial knows schemas up to {known}")]
    Newer {
        /// The schema of the data.
        found: u32,
        /// The newest schema that is known here.
        known: u32,
    },
    /// It could not be brought up to the schema of this version.
    #[error("the data could not be migrated to schema {to}: {reason}")]
    Migration {
        /// The schema that was being migrated to.
        to: u32,
        /// What went wrong.
        reason: String,
    },
    /// The directory or what is in it cannot be used.
    #[error("the store cannot be opened: {0}")]
    Failed(String),
}

/// What is fixed in a build, and varied only by tests of the store itself.
#[derive(Clone, Copy)]
pub(crate) struct Build {
    /// The schema that is read and written.
    pub(crate) schema: u32,
    /// The migrations up to it.
    pub(crate) migrations: &'static [Migration],
    /// The committer has a thread even where nothing blocks.
    pub(crate) always_threaded: bool,
}

/// This build.
pub(crate) const BUILD: Build = Build { schema: SCHEMA, migrations: MIGRATIONS, always_threaded: false };

/// Opens a store: finds out whose it is, migrates it, writes a first position and starts the committer.
pub(crate) fn open(options: Options, build: Build, clock: &SharedClock, random: &Random) -> Result<Storage, OpenError> {
    let engine = match &options.place {
        Place::Directory(path) => Engine::Rocks(open_directory(path, options.memory_budget_bytes)?),
        Place::Memory(disk) => Engine::Memory(Memory::open(disk)),
    };
    let snapshot = engine.snapshot();
    let stored = stored::<Database>(&snapshot)?;
    let mut row = match &stored {
        Some(row) => judge(row, &options, build, random)?,
        None => DatabaseRow {
            schema: build.schema,
            server_name: options.server_name.clone(),
            epoch: random.u64(),
            hash_key: random.bytes(),
        },
    };
    let start = stored_position(&snapshot)?.max(StreamPosition(clock.now().0 * POSITIONS_PER_MS));
    let shared = Shared::new(Seen { snapshot, position: start });
    let mut core = Core {
        engine,
        durability: options.durability,
        shared,
        faults: Faults::none(),
        clock: clock.clone(),
        halted: None,
    };
    // The first batch of a start writes its position down, so that the next start is behind it whatever the clock says then.
    let mut batch = Batch::new();
    batch.assert_unchanged::<Database>(&(), stored.as_ref()).put::<Database>(&(), &row);
    for outcome in core.commit(vec![batch]) {
        outcome.map_err(|e| OpenError::Failed(e.to_string()))?;
    }
    migrate::run(&mut core, &mut row, build.migrations)?;
    core.faults = options.faults;
    let threaded = build.always_threaded || matches!(core.engine, Engine::Rocks(_));
    let shared = core.shared.clone();
    let committer =
        Committer::start(core, threaded).map_err(|e| OpenError::Failed(format!("no thread for the committer: {e}")))?;
    Ok(Storage::new(Inner {
        shared,
        committer,
        hash: KeyedHash::new(row.hash_key),
        epoch: row.epoch,
        boot_id: random.u64(),
    }))
}

fn open_directory(path: &Path, memory_budget_bytes: usize) -> Result<Rocks, OpenError> {
    std::fs::create_dir_all(path).map_err(|e| OpenError::Failed(format!("{}: {e}", path.display())))?;
    Rocks::open(&RocksOptions { path, memory_budget_bytes }).map_err(|error| {
        if Rocks::is_in_use(&error) { OpenError::InUse(path.to_owned()) } else { OpenError::Failed(error.0) }
    })
}

/// Whether a database may be opened; answers with its row as it is from now on.
fn judge(row: &DatabaseRow, options: &Options, build: Build, random: &Random) -> Result<DatabaseRow, OpenError> {
    if row.schema > build.schema {
        return Err(OpenError::Newer { found: row.schema, known: build.schema });
    }
    if row.server_name != options.server_name {
        return Err(OpenError::OtherServer { found: row.server_name.clone(), expected: options.server_name.clone() });
    }
    let epoch = if options.restored { random.u64() } else { row.epoch };
    Ok(DatabaseRow { epoch, ..row.clone() })
}

fn stored_position(snapshot: &Snapshot) -> Result<StreamPosition, OpenError> {
    Ok(StreamPosition(stored::<Position>(snapshot)?.unwrap_or_default()))
}

/// A row under the empty key, before there is a view.
fn stored<T: Table<Key = ()>>(snapshot: &Snapshot) -> Result<Option<T::Value>, OpenError> {
    let row = snapshot.get(&KeyBytes::of_row(T::ID, &()), T::Value::decode).map_err(|e| OpenError::Failed(e.0))?;
    row.transpose().map_err(|reason| OpenError::Failed(format!("table {}: {reason}", T::NAME)))
}
