//! The store's own tests, each on every engine that it concerns.

mod conformance;
mod crash;
mod opening;

use std::{path::Path, sync::Arc};

use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use tempfile::TempDir;

use crate::{
    Faults, MemoryDisk, OpenError, Options, Storage,
    open::{self, BUILD, Build},
};

/// The engines, and the two ways in which the committer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// In memory, committing in the caller.
    Inline,
    /// In memory, committing on a thread, in groups.
    Threaded,
    /// RocksDB.
    Rocks,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Inline, Self::Threaded, Self::Rocks];
}

/// A place that outlives the stores opened on it.
struct Bench {
    kind: Kind,
    disk: MemoryDisk,
    directory: TempDir,
    clock: Arc<ManualClock>,
    random: Random,
}

impl Bench {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            disk: MemoryDisk::new(),
            directory: tempfile::tempdir().expect("a temporary directory"),
            clock: ManualClock::new(UnixMillis(1_000_000)),
            random: Random::seeded(7),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn options(&self) -> Options {
        match self.kind {
            Kind::Inline | Kind::Threaded => Options::memory(&self.disk, "example.org"),
            Kind::Rocks => Options { memory_budget_bytes: 16 << 20, ..Options::directory(self.path(), "example.org") },
        }
    }

    fn open_as(&self, options: Options, build: Build) -> Result<Storage, OpenError> {
        let clock: SharedClock = self.clock.clone();
        let build = Build { always_threaded: self.kind == Kind::Threaded, ..build };
        open::open(options, build, &clock, &self.random)
    }

    fn open(&self) -> Storage {
        self.open_as(self.options(), BUILD).expect("opens")
    }

    fn open_with(&self, faults: &Faults) -> Storage {
        self.open_as(Options { faults: faults.clone(), ..self.options() }, BUILD).expect("opens")
    }
}
