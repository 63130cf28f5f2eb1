//! What a commit takes: asserts and operations, together or not at all.

use std::ops::Range;

use crate::{Key, Table, TableId, Value};

/// What must hold for a batch to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assert {
    /// No value is stored under the key.
    Absent {
        /// The table.
        table: TableId,
        /// The key's bytes.
        key: Vec<u8>,
    },
    /// Exactly these bytes are stored under the key.
    Equals {
        /// The table.
        table: TableId,
        /// The key's bytes.
        key: Vec<u8>,
        /// The value's bytes.
        value: Vec<u8>,
    },
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Stores a value. Where an offset is given, the committer writes the batch's position there, 8 bytes big-endian.
    Put {
        /// The table.
        table: TableId,
        /// The key's bytes.
        key: Vec<u8>,
        /// The value's bytes.
        value: Vec<u8>,
        /// Where in the key the position goes.
        key_stamp: Option<usize>,
        /// Where in the value the position goes.
        value_stamp: Option<usize>,
    },
    /// Removes a value, if there is one.
    Delete {
        /// The table.
        table: TableId,
        /// The key's bytes.
        key: Vec<u8>,
    },
    /// Removes every key that starts with these bytes. For whole partitions and parts of one.
    DeletePrefix {
        /// The table.
        table: TableId,
        /// The front of the keys; not empty.
        prefix: Vec<u8>,
    },
}

/// Asserts and operations that take effect together or not at all.
///
/// A *rider* is a batch of its own that is merged into another's, so that both happen or neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    asserts: Vec<Assert>,
    ops: Vec<Op>,
}

impl Batch {
    /// A batch that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires that nothing is stored under the key.
    pub fn assert_absent<T: Table>(&mut self, key: &T::Key) -> &mut Self {
        self.asserts.push(Assert::Absent { table: T::ID, key: key.to_bytes().into_parts().0 });
        self
    }

    /// Requires that the value is stored under the key.
    pub fn assert_equals<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> &mut Self {
        let (key, value) = (key.to_bytes().into_parts().0, value.encode().0);
        self.asserts.push(Assert::Equals { table: T::ID, key, value });
        self
    }

    /// Requires that what is stored is what was read: the value, or nothing.
    pub fn assert_unchanged<T: Table>(&mut self, key: &T::Key, read: Option<&T::Value>) -> &mut Self {
        match read {
            Some(value) => self.assert_equals::<T>(key, value),
            None => self.assert_absent::<T>(key),
        }
    }

    /// Stores a value. A [`primitives::StreamPosition::PENDING`] in the key, or in a [`crate::Positioned`] value, becomes the batch's position.
    pub fn put<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> &mut Self {
        let (key, key_stamp) = key.to_bytes().into_parts();
        let (value, value_stamp) = value.encode();
        self.ops.push(Op::Put { table: T::ID, key, value, key_stamp, value_stamp });
        self
    }

    /// Removes a value, if there is one.
    pub fn delete<T: Table>(&mut self, key: &T::Key) -> &mut Self {
        self.ops.push(Op::Delete { table: T::ID, key: key.to_bytes().into_parts().0 });
        self
    }

    /// Removes every key of the table that starts with the given parts; `prefix` must not be empty.
    pub fn delete_prefix<T: Table>(&mut self, prefix: &impl Key) -> &mut Self {
        let prefix = prefix.to_bytes().into_parts().0;
        debug_assert!(!prefix.is_empty(), "a whole table is never deleted");
        self.ops.push(Op::DeletePrefix { table: T::ID, prefix });
        self
    }

    /// Takes another batch along. Answers which of this batch's asserts came from it, so that a conflict can be told apart.
    pub fn merge(&mut self, rider: Self) -> Range<usize> {
        let start = self.asserts.len();
        self.asserts.extend(rider.asserts);
        self.ops.extend(rider.ops);
        start..self.asserts.len()
    }

    /// What must hold, in the order it was added.
    pub fn asserts(&self) -> &[Assert] {
        &self.asserts
    }

    /// What is written, in the order it was added.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Whether there is nothing to check and nothing to write.
    pub fn is_empty(&self) -> bool {
        self.asserts.is_empty() && self.ops.is_empty()
    }

    /// Bytes of keys and values, for the bound on a batch.
    pub fn size(&self) -> usize {
        let ops = self.ops.iter().map(|op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key, .. } => key.len(),
            Op::DeletePrefix { prefix, .. } => prefix.len(),
        });
        ops.sum()
    }

    /// The asserts and the operations.
    pub fn into_parts(self) -> (Vec<Assert>, Vec<Op>) {
        (self.asserts, self.ops)
    }
}
