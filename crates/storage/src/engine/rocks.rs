//! Rows in RocksDB: the only file that names it.

use std::{path::Path, sync::Arc};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DBWithThreadMode, FlushOptions, LogLevel, Options, ReadOptions, SingleThreaded, SnapshotWithThreadMode, WriteBatch,
    WriteBufferManager, WriteOptions, checkpoint::Checkpoint, properties,
};

use super::{EngineError, Visit, Write};
use crate::{
    Direction,
    schema::families::{self, Access, Family},
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// The most that the write-ahead logs may grow to before the column families that hold them back are flushed.
const MAX_TOTAL_WAL: usize = 512 * MIB;
/// Share of the memory budget that goes to the block cache, and the share that memtables may take.
const CACHE_SHARE: usize = 4;
const MEMTABLE_SHARE: usize = 4;

type Db = DBWithThreadMode<SingleThreaded>;

impl From<rocksdb::Error> for EngineError {
    fn from(error: rocksdb::Error) -> Self {
        Self(error.into_string())
    }
}

/// How to open the database.
#[derive(Clone, Debug)]
pub(crate) struct RocksOptions<'a> {
    /// Its directory; made if it is missing.
    pub(crate) path: &'a Path,
    /// What the caches and memtables share, in bytes.
    pub(crate) memory_budget_bytes: usize,
}

/// An open database.
pub(crate) struct Rocks {
    db: Arc<Db>,
    unsynced: WriteOptions,
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rocks").field(&self.db.path()).finish()
    }
}

impl Rocks {
    /// Opens the database, recovering what was synced before a crash.
    pub(crate) fn open(options: &RocksOptions<'_>) -> Result<Self, EngineError> {
        let database = database_options(options.memory_budget_bytes);
        let cache = Cache::new_hyper_clock_cache(options.memory_budget_bytes / CACHE_SHARE, 0);
        let mut descriptors: Vec<_> = families::ALL
            .iter()
            .map(|family| {
                ColumnFamilyDescriptor::new(family.name, family_options(family, &cache, options.memory_budget_bytes))
            })
            .collect();
        // A newer server's families are opened too, so that the schema version can be read and the database refused for the right reason.
        for other in unknown_families(&database, options.path) {
            descriptors.push(ColumnFamilyDescriptor::new(other, Options::default()));
        }
        let db = Db::open_cf_descriptors(&database, options.path, descriptors)?;
        let mut unsynced = WriteOptions::default();
        unsynced.set_sync(false);
        Ok(Self { db: Arc::new(db), unsynced })
    }

    /// Whether opening failed because the database is open, in another process or in this one. There is no code for it, only words.
    pub(crate) fn is_in_use(error: &EngineError) -> bool {
        ["IO error: While lock file: ", "IO error: lock hold by current process"]
            .iter()
            .any(|words| error.0.starts_with(words))
    }

    pub(super) fn write(&self, writes: Vec<Write>) -> Result<(), EngineError> {
        let mut batch = WriteBatch::default();
        for write in writes {
            match write {
                Write::Put { key, value } => batch.put_cf(family(&self.db, &key)?, key, value),
                Write::Delete { key } => batch.delete_cf(family(&self.db, &key)?, key),
                Write::DeleteRange { start, end } => batch.delete_range_cf(family(&self.db, &start)?, start, end),
            }
        }
        Ok(self.db.write_opt(batch, &self.unsynced)?)
    }

    pub(super) fn sync(&self) -> Result<(), EngineError> {
        Ok(self.db.flush_wal(true)?)
    }

    pub(super) fn snapshot(&self) -> RocksSnapshot {
        RocksSnapshot(HeldSnapshot::new(Arc::clone(&self.db), |db| {
            let snapshot = db.snapshot();
            let mut options = ReadOptions::default();
            options.set_snapshot(&snapshot);
            Reader { options, snapshot }
        }))
    }

    pub(super) fn failure(&self) -> Option<String> {
        match self.db.property_int_value(properties::BACKGROUND_ERRORS) {
            Ok(None | Some(0)) => None,
            Ok(Some(count)) => Some(format!("{count} background errors; see the database's LOG file")),
            Err(error) => Some(error.into_string()),
        }
    }

    pub(super) fn close(&self) -> Result<(), EngineError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        for family in families::ALL {
            let handle = self.db.cf_handle(family.name).ok_or_else(|| missing(family.name))?;
            self.db.flush_cf_opt(handle, &options)?;
        }
        self.db.flush_wal(true)?;
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

fn missing(family: &str) -> EngineError {
    EngineError(format!("column family {family} is missing"))
}

/// The column family that a row key belongs to.
fn family<'a>(db: &'a Db, key: &[u8]) -> Result<&'a ColumnFamily, EngineError> {
    let name = families::of(key.first().copied().unwrap_or_default()).name;
    db.cf_handle(name).ok_or_else(|| missing(name))
}

fn unknown_families(options: &Options, path: &Path) -> Vec<String> {
    // Where there is no database yet, there is nothing to list.
    let mut names = Db::list_cf(options, path).unwrap_or_default();
    names.retain(|name| families::ALL.iter().all(|family| family.name != name));
    names
}

fn database_options(memory_budget: usize) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(MAX_TOTAL_WAL.min(memory_budget.max(64 * MIB)) as u64);
    options
        .set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(memory_budget / MEMTABLE_SHARE, false));
    options.set_max_background_jobs(2);
    options.set_max_file_opening_threads(2);
    options.set_max_open_files(512);
    options.set_bytes_per_sync(MIB as u64);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(3);
    options.set_max_log_file_size(4 * MIB);
    options
}

fn family_options(family: &Family, cache: &Cache, memory_budget: usize) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_format_version(6);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    match family.access {
        Access::Point => blocks.set_bloom_filter(10.0, false),
        Access::Scan => {}
        Access::Json => blocks.set_block_size(16 * KIB),
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_write_buffer_size((memory_budget / 32).clamp(MIB, 32 * MIB));
    // Where most of what lies together is deleted, reads would wade through it until it is compacted away.
    options.add_compact_on_deletion_collector_factory(8 * KIB, 4 * KIB, 0.5);
    // Small, because each of some twenty families holds at least one.
    options.set_arena_block_size(64 * KIB);
    options
}

/// A snapshot and the options that make a read see it.
struct Reader<'a> {
    options: ReadOptions,
    snapshot: SnapshotWithThreadMode<'a, Db>,
}

self_cell::self_cell!(
    struct HeldSnapshot {
        owner: Arc<Db>,
        #[covariant]
        dependent: Reader,
    }
);

/// A snapshot that keeps its database open.
pub(crate) struct RocksSnapshot(HeldSnapshot);

impl std::fmt::Debug for RocksSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RocksSnapshot")
    }
}

impl RocksSnapshot {
    /// Files that are finished are linked where the file system allows it, so this takes little time and space.
    pub(super) fn copy_database(&self, directory: &Path) -> Result<(), EngineError> {
        Ok(Checkpoint::new(self.0.borrow_owner().as_ref())?.create_checkpoint(directory)?)
    }

    pub(super) fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, EngineError> {
        let db = self.0.borrow_owner();
        let value = db.get_pinned_cf_opt(family(db, key)?, key, &self.0.borrow_dependent().options)?;
        Ok(value.map(|value| read(&value)))
    }

    pub(super) fn multi_get(
        &self,
        keys: &[Vec<u8>],
        mut read: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), EngineError> {
        let Some(first) = keys.first() else { return Ok(()) };
        let db = self.0.borrow_owner();
        let values = db.batched_multi_get_cf_opt(family(db, first)?, keys, false, &self.0.borrow_dependent().options);
        for (index, value) in values.into_iter().enumerate() {
            read(index, value?.as_deref());
        }
        Ok(())
    }

    pub(super) fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        let db = self.0.borrow_owner();
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.0.borrow_dependent().snapshot);
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        let mut rows = db.raw_iterator_cf_opt(family(db, start)?, options);
        match direction {
            Direction::Forward => rows.seek_to_first(),
            Direction::Backward => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            match direction {
                Direction::Forward => rows.next(),
                Direction::Backward => rows.prev(),
            }
        }
        Ok(rows.status()?)
    }
}
