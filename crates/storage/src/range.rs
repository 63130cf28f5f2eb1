//! Ranges of keys.

use crate::{Key, TableId};

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
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
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

    /// The part of the range from this key on, in the direction of a scan. The key is in both.
    pub(crate) fn rest(&self, key: &[u8], direction: Direction) -> Self {
        match direction {
            Direction::Forward => Self { start: key.to_vec(), end: self.end.clone() },
            Direction::Backward => Self { start: self.start.clone(), end: Some([key, &[0]].concat()) },
        }
    }

    /// The row keys that the range covers in a table: from, and up to but without.
    pub(crate) fn rows(&self, table: TableId) -> (Vec<u8>, Vec<u8>) {
        let row = |key: &[u8]| [&[table.0], key].concat();
        let end = self.end.as_deref().map_or_else(|| vec![table.0 + 1], row);
        (row(&self.start), end)
    }
}
