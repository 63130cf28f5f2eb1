//! The store: opening, views, commits.

use std::sync::Arc;

use parking_lot::Mutex;
use primitives::{KeyedHash, Random, SharedClock, StreamPosition};
use tokio::sync::watch;

use crate::{Assert, Batch, CorruptValue, Key, Op, Table, TableId, Value};

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An assert did not hold: the number is its place in [`Batch::asserts`]. Nothing was written.
    #[error("assert {0} of the batch does not hold")]
    Conflict(usize),
    /// The batch is over the bound on its size.
    #[error("a batch of {0} bytes is over the limit")]
    TooLarge(usize),
    /// The store cannot write any more; the server must end.
    #[error("the store has failed: {0}")]
    Failed(String),
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A stored value makes no sense.
    #[error(transparent)]
    Corrupt(#[from] CorruptValue),
    /// The engine failed.
    #[error("the store cannot be read: {0}")]
    Engine(String),
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Lowest key first.
    Forward,
    /// Highest key first.
    Backward,
}

/// The keys that a scan covers: `start` inclusive, `end` exclusive, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

/// The first key after all those that start with `prefix`; `None` if there is none.
fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

impl KeyRange {
    /// Every key that starts with these parts; `()` for the whole table.
    pub fn prefix(prefix: &impl Key) -> Self {
        let start = prefix.to_bytes().into_parts().0;
        Self { end: after_prefix(start.clone()), start }
    }

    /// Every key from `start` on (inclusive) and before `end` (exclusive). Both may be the front of a key.
    pub fn between(start: &impl Key, end: &impl Key) -> Self {
        Self { start: start.to_bytes().into_parts().0, end: Some(end.to_bytes().into_parts().0) }
    }

    /// Every key that starts with `prefix` and is `start` or later.
    pub fn from(prefix: &impl Key, start: &impl Key) -> Self {
        Self { start: start.to_bytes().into_parts().0, ..Self::prefix(prefix) }
    }

    /// Every key that starts with `prefix` and is before `end`.
    pub fn until(prefix: &impl Key, end: &impl Key) -> Self {
        Self { end: Some(end.to_bytes().into_parts().0), ..Self::prefix(prefix) }
    }

    /// The inclusive start and the exclusive end, as bytes.
    pub fn bounds(&self) -> (&[u8], Option<&[u8]>) {
        (&self.start, self.end.as_deref())
    }
}

/// The rows of one page of a scan.
#[derive(Debug)]
pub struct Page<T: Table> {
    /// Keys and values in the order of the scan.
    pub rows: Vec<(T::Key, T::Value)>,
    /// What is left of the range; `None` if nothing is.
    pub rest: Option<KeyRange>,
}

type Tree = imbl::OrdMap<(TableId, Vec<u8>), Arc<[u8]>>;

struct Inner {
    tree: Mutex<(Tree, StreamPosition)>,
    visible: watch::Sender<StreamPosition>,
    hash: KeyedHash,
    epoch: u64,
    boot_id: u64,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

impl Storage {
    /// An empty store in memory, for tests.
    pub fn memory(clock: &SharedClock, random: &Random) -> Self {
        let start = StreamPosition(clock.now().0 * 256);
        Self(Arc::new(Inner {
            tree: Mutex::new((Tree::new(), start)),
            visible: watch::Sender::new(start),
            hash: KeyedHash::new(random.bytes()),
            epoch: random.u64(),
            boot_id: random.u64(),
        }))
    }

    /// A snapshot of everything committed so far.
    pub fn view(&self) -> View {
        let (tree, position) = self.0.tree.lock().clone();
        View { tree, position }
    }

    /// Writes a batch, durably, and answers with its position. When this returns, every later view shows the batch.
    pub async fn commit(&self, batch: Batch) -> Result<StreamPosition, CommitError> {
        let mut guard = self.0.tree.lock();
        let (asserts, ops) = batch.into_parts();
        for (index, assert) in asserts.iter().enumerate() {
            let holds = match assert {
                Assert::Absent { table, key } => !guard.0.contains_key(&(*table, key.clone())),
                Assert::Equals { table, key, value } => guard.0.get(&(*table, key.clone())).is_some_and(|v| **v == **value),
            };
            if !holds {
                return Err(CommitError::Conflict(index));
            }
        }
        let position = guard.1.next();
        for op in ops {
            apply(&mut guard.0, op, position);
        }
        guard.1 = position;
        self.0.visible.send_replace(position);
        Ok(position)
    }

    /// The position of the newest batch that views show.
    pub fn position(&self) -> StreamPosition {
        *self.0.visible.borrow()
    }

    /// Tells of every new position.
    pub fn subscribe(&self) -> watch::Receiver<StreamPosition> {
        self.0.visible.subscribe()
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

fn apply(tree: &mut Tree, op: Op, position: StreamPosition) {
    match op {
        Op::Put { table, mut key, mut value, key_stamp, value_stamp } => {
            for (bytes, stamp) in [(&mut key, key_stamp), (&mut value, value_stamp)] {
                if let Some(at) = stamp {
                    bytes[at..at + 8].copy_from_slice(&position.0.to_be_bytes());
                }
            }
            tree.insert((table, key), value.into());
        }
        Op::Delete { table, key } => {
            tree.remove(&(table, key));
        }
        Op::DeletePrefix { table, prefix } => {
            let keys: Vec<_> = tree
                .range((table, prefix.clone())..)
                .map(|(k, _)| k.clone())
                .take_while(|(t, k)| *t == table && k.starts_with(&prefix))
                .collect();
            for key in keys {
                tree.remove(&key);
            }
        }
    }
}

/// A snapshot of the store and the stream position that belongs to it. Lives seconds at most, never across a long poll.
#[derive(Clone)]
pub struct View {
    tree: Tree,
    position: StreamPosition,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("View").field(&self.position).finish()
    }
}

impl View {
    /// The position of the newest batch in the view.
    pub fn position(&self) -> StreamPosition {
        self.position
    }

    /// One value.
    pub async fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, ReadError> {
        let key = key.to_bytes().into_parts().0;
        self.tree.get(&(T::ID, key)).map(|bytes| decode::<T>(bytes)).transpose()
    }

    /// Several values, in the order of the keys.
    pub async fn multi_get<T: Table>(&self, keys: &[T::Key]) -> Result<Vec<Option<T::Value>>, ReadError> {
        let get = |key: &T::Key| {
            let key = key.to_bytes().into_parts().0;
            self.tree.get(&(T::ID, key)).map(|bytes| decode::<T>(bytes)).transpose()
        };
        keys.iter().map(get).collect()
    }

    /// Up to `limit` rows of a range.
    pub async fn scan<T: Table>(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Page<T>, ReadError> {
        let (start, end) = range.bounds();
        let first = (T::ID, start.to_vec());
        let last = match end {
            Some(end) => (T::ID, end.to_vec()),
            None => (TableId(T::ID.0 + 1), Vec::new()),
        };
        let mut rows = Vec::new();
        let mut push = |(key, value): (&(TableId, Vec<u8>), &Arc<[u8]>)| -> Result<(), ReadError> {
            let key = T::Key::from_bytes(&key.1)
                .ok_or_else(|| CorruptValue { table: T::NAME, reason: "key has another form".to_owned() })?;
            rows.push((key, decode::<T>(value)?));
            Ok(())
        };
        if first < last {
            let range = self.tree.range(first..last);
            match direction {
                Direction::Forward => range.take(limit + 1).try_for_each(&mut push)?,
                Direction::Backward => range.rev().take(limit + 1).try_for_each(&mut push)?,
            }
        }
        let rest = (rows.len() > limit).then(|| {
            let (key, _) = rows.pop().expect("more rows than the limit");
            let key = key.to_bytes().into_parts().0;
            match direction {
                Direction::Forward => KeyRange { start: key, end: range.end.clone() },
                Direction::Backward => KeyRange { start: range.start.clone(), end: Some([key, vec![0]].concat()) },
            }
        });
        Ok(Page { rows, rest })
    }
}

fn decode<T: Table>(bytes: &[u8]) -> Result<T::Value, ReadError> {
    T::Value::decode(bytes).map_err(|reason| CorruptValue { table: T::NAME, reason }.into())
}
