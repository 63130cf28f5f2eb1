//! One group of batches: which of them hold, what positions they get, what is written. Reads, but changes nothing.

use std::collections::{HashMap, HashSet};

use primitives::StreamPosition;

use crate::{
    Assert, Batch, CommitError, Direction, KeyBytes, Op, Table, TableId, Value,
    engine::{EngineError, Snapshot, Write},
    large,
    range::after_prefix,
    schema::{self, meta::Position},
};

/// Up to so many rows under a deleted prefix are deleted one by one: a deleted range slows down every later read near it.
const POINT_DELETES: usize = 64;

/// A group that is ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What is written, in order, the position row included. Empty if no batch held.
    pub(crate) writes: Vec<Write>,
    /// What becomes of each batch.
    pub(crate) outcomes: Vec<Result<StreamPosition, CommitError>>,
    /// The position of the last batch that held.
    pub(crate) last: StreamPosition,
}

/// Checks each batch against the snapshot and the batches before it, and gives those that hold the positions after `last`.
pub(crate) fn prepare(snapshot: &Snapshot, last: StreamPosition, batches: Vec<Batch>) -> Result<Prepared, EngineError> {
    let mut group = Group {
        snapshot,
        watched: watched(&batches),
        changed: HashMap::new(),
        erased: Vec::new(),
        parts: HashMap::new(),
        writes: Vec::new(),
    };
    let mut outcomes = Vec::with_capacity(batches.len());
    let mut last = last;
    for batch in batches {
        let (asserts, ops) = batch.into_parts();
        if let Some(failed) = group.first_failing(&asserts)? {
            outcomes.push(Err(CommitError::Conflict(failed)));
            continue;
        }
        last = last.next();
        for op in ops {
            group.apply(op, last)?;
        }
        outcomes.push(Ok(last));
    }
    if outcomes.iter().any(Result::is_ok) {
        let key = KeyBytes::of_row(Position::ID, &());
        group.writes.push(Write::Put { key, value: last.0.encode().0 });
    }
    Ok(Prepared { writes: group.writes, outcomes, last })
}

/// The rows that a batch other than the first asserts something of: those whose changes inside the group matter.
fn watched(batches: &[Batch]) -> HashSet<Vec<u8>> {
    let asserts = batches.iter().skip(1).flat_map(Batch::asserts);
    asserts
        .map(|assert| match assert {
            Assert::Absent { table, key } | Assert::Equals { table, key, .. } => row(*table, key),
        })
        .collect()
}

fn row(table: TableId, key: &[u8]) -> Vec<u8> {
    [&[table.0], key].concat()
}

struct Group<'a> {
    snapshot: &'a Snapshot,
    watched: HashSet<Vec<u8>>,
    /// Watched rows that the group has changed: the value, or `None` if deleted.
    changed: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// The prefixes that the group has deleted.
    erased: Vec<Vec<u8>>,
    /// How many parts the large values have that the group has changed.
    parts: HashMap<Vec<u8>, u16>,
    writes: Vec<Write>,
}

impl Group<'_> {
    fn first_failing(&self, asserts: &[Assert]) -> Result<Option<usize>, EngineError> {
        for (index, assert) in asserts.iter().enumerate() {
            let holds = match assert {
                Assert::Absent { table, key } => self.read(*table, key, |value| value.is_none())?,
                Assert::Equals { table, key, value } => self.read(*table, key, |stored| stored == Some(value))?,
            };
            if !holds {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Looks at a row as the group has left it.
    fn read(&self, table: TableId, key: &[u8], look: impl Fn(Option<&[u8]>) -> bool) -> Result<bool, EngineError> {
        let row = row(table, key);
        if let Some(value) = self.changed.get(&row) {
            return Ok(look(value.as_deref()));
        }
        if self.erased.iter().any(|prefix| row.starts_with(prefix)) {
            return Ok(look(None));
        }
        let stored = self.snapshot.get(&row, |head| {
            if schema::is_large(table) {
                large::resolve(self.snapshot, &row, head).map(|value| look(Some(&value)))
            } else {
                Ok(look(Some(head)))
            }
        })?;
        stored.unwrap_or_else(|| Ok(look(None)))
    }

    fn apply(&mut self, op: Op, position: StreamPosition) -> Result<(), EngineError> {
        match op {
            Op::Put { table, mut key, mut value, key_stamp, value_stamp } => {
                stamp(&mut key, key_stamp, position);
                stamp(&mut value, value_stamp, position);
                self.put(table, key, value)
            }
            Op::Delete { table, mut key } => {
                key.insert(0, table.0);
                self.delete(table, key)
            }
            Op::DeletePrefix { table, mut prefix } => {
                prefix.insert(0, table.0);
                if schema::is_large(table) {
                    self.erase(large::part_key(&prefix, None))?;
                }
                self.erase(prefix)
            }
        }
    }

    fn put(&mut self, table: TableId, mut key: Vec<u8>, value: Vec<u8>) -> Result<(), EngineError> {
        key.insert(0, table.0);
        if schema::is_large(table) {
            let old = self.parts_of(&key)?;
            let new = large::put(key.clone(), &value, &mut self.writes);
            self.delete_parts(&key, new, old);
            self.parts.insert(key.clone(), new);
            self.note(&key, || Some(value));
        } else {
            self.note(&key, || Some(value.clone()));
            self.writes.push(Write::Put { key, value });
        }
        Ok(())
    }

    fn delete(&mut self, table: TableId, key: Vec<u8>) -> Result<(), EngineError> {
        if schema::is_large(table) {
            let old = self.parts_of(&key)?;
            self.delete_parts(&key, 0, old);
            self.parts.insert(key.clone(), 0);
        }
        self.note(&key, || None);
        self.writes.push(Write::Delete { key });
        Ok(())
    }

    /// Remembers a change, if a later batch asks about the row.
    fn note(&mut self, key: &[u8], value: impl FnOnce() -> Option<Vec<u8>>) {
        if self.watched.contains(key) {
            self.changed.insert(key.to_vec(), value());
        }
    }

    fn parts_of(&self, key: &[u8]) -> Result<u16, EngineError> {
        match self.parts.get(key) {
            Some(parts) => Ok(*parts),
            None => large::stored_parts(self.snapshot, key),
        }
    }

    fn delete_parts(&mut self, key: &[u8], from: u16, until: u16) {
        let parts = (from..until).map(|number| Write::Delete { key: large::part_key(key, Some(number)) });
        self.writes.extend(parts);
    }

    /// Deletes every row under a prefix.
    fn erase(&mut self, prefix: Vec<u8>) -> Result<(), EngineError> {
        let end = after_prefix(prefix.clone()).expect("no table has the number 255");
        let mut rows = Vec::new();
        self.snapshot.scan(&prefix, &end, Direction::Forward, &mut |key, _| {
            rows.push(key.to_vec());
            if rows.len() > POINT_DELETES {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        })?;
        if rows.len() > POINT_DELETES {
            self.writes.push(Write::DeleteRange { start: prefix.clone(), end });
        } else {
            for write in &self.writes {
                if let Write::Put { key, .. } = write
                    && key.starts_with(&prefix)
                {
                    rows.push(key.clone());
                }
            }
            self.writes.extend(rows.into_iter().map(|key| Write::Delete { key }));
        }
        self.changed.iter_mut().filter(|(row, _)| row.starts_with(&prefix)).for_each(|(_, value)| *value = None);
        self.erased.push(prefix);
        Ok(())
    }
}

fn stamp(bytes: &mut [u8], at: Option<usize>, position: StreamPosition) {
    if let Some(at) = at {
        bytes[at..at + 8].copy_from_slice(&position.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Key as _, Raw, Text,
        schema::testing::{Big, Plain},
    };

    const START: StreamPosition = StreamPosition(10);

    fn key(number: u8) -> (u8, Text, u8) {
        (1, Text::new("row"), number)
    }

    fn value(text: &str) -> Raw {
        Raw(text.as_bytes().to_vec())
    }

    fn batch(fill: impl FnOnce(&mut Batch)) -> Batch {
        let mut batch = Batch::new();
        fill(&mut batch);
        batch
    }

    /// What becomes of a group on a store that holds the row 0 with the value `stored`, and a large value.
    fn outcomes(batches: Vec<Batch>) -> Vec<Result<u64, usize>> {
        let mut rows = crate::engine::Rows::default();
        rows.insert(row(Plain::ID, key(0).to_bytes().as_slice()), b"stored"[..].into());
        rows.insert(row(Big::ID, &[1, 0]), b"\0large"[..].into());
        let prepared = prepare(&Snapshot::Memory(rows), START, batches).expect("readable");
        let outcome = |outcome: Result<StreamPosition, CommitError>| match outcome {
            Ok(position) => Ok(position.0),
            Err(CommitError::Conflict(index)) => Err(index),
            Err(other) => panic!("{other}"),
        };
        prepared.outcomes.into_iter().map(outcome).collect()
    }

    #[test]
    fn a_batch_sees_what_the_batches_before_it_put_and_deleted() {
        let put = batch(|b| _ = b.put::<Plain>(&key(1), &value("new")).delete::<Plain>(&key(0)));
        let sees = batch(|b| _ = b.assert_equals::<Plain>(&key(1), &value("new")).assert_absent::<Plain>(&key(0)));
        let blind = batch(|b| _ = b.assert_absent::<Plain>(&key(1)));
        let stale = batch(|b| _ = b.assert_absent::<Plain>(&key(0)).assert_equals::<Plain>(&key(0), &value("stored")));
        assert_eq!(outcomes(vec![put, blind, sees, stale]), [Ok(11), Err(0), Ok(12), Err(1)]);
    }

    #[test]
    fn a_deleted_prefix_takes_what_was_stored_and_what_was_put_before_it_but_not_what_is_put_after() {
        let put = batch(|b| _ = b.put::<Plain>(&key(1), &value("before")));
        let erase = batch(|b| _ = b.delete_prefix::<Plain>(&(1_u8,)).put::<Plain>(&key(2), &value("after")));
        let sees = |number, text| batch(move |b| _ = b.assert_equals::<Plain>(&key(number), &value(text)));
        let missing = |number| batch(move |b| _ = b.assert_absent::<Plain>(&key(number)));
        let group = vec![
            sees(0, "stored"),
            put,
            sees(1, "before"),
            erase,
            missing(0),
            missing(1),
            sees(2, "after"),
            sees(0, "stored"),
        ];
        assert_eq!(outcomes(group), [Ok(11), Ok(12), Ok(13), Ok(14), Ok(15), Ok(16), Ok(17), Err(0)]);
    }

    #[test]
    fn a_batch_that_fails_leaves_no_trace() {
        let fails = batch(|b| _ = b.assert_absent::<Plain>(&key(0)).put::<Plain>(&key(1), &value("never")));
        let sees = batch(|b| _ = b.assert_absent::<Plain>(&key(1)));
        assert_eq!(outcomes(vec![fails.clone(), sees]), [Err(0), Ok(11)]);
        let nothing = prepare(&Snapshot::Memory(crate::engine::Rows::default()), START, Vec::new()).expect("readable");
        assert_eq!((nothing.writes.len(), nothing.last), (0, START));
    }

    #[test]
    fn large_values_are_compared_as_what_they_stand_for() {
        let stored =
            batch(|b| _ = b.assert_equals::<Big>(&(1, 0), &value("large")).put::<Big>(&(1, 0), &Raw(vec![7; 100_000])));
        let replaced =
            batch(|b| _ = b.assert_equals::<Big>(&(1, 0), &Raw(vec![7; 100_000])).delete_prefix::<Big>(&(1_u8,)));
        let gone = batch(|b| _ = b.assert_absent::<Big>(&(1, 0)));
        assert_eq!(outcomes(vec![stored, replaced, gone]), [Ok(11), Ok(12), Ok(13)]);
    }
}
