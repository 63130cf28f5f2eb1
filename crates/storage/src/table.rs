//! Tables: a number, a key type and a value type each.

use primitives::StreamPosition;
use serde::{Serialize, de::DeserializeOwned};

use crate::Key;

/// The number of a table: the first byte of each of its rows' keys. 255 is not a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u8);

/// What a table holds. Declared in [`crate::schema`] with the `tables!` macro.
pub trait Table: 'static {
    /// The table's number.
    const ID: TableId;
    /// The table's name, for metrics, column families and error messages.
    const NAME: &'static str;
    /// Whether values may be over [`MAX_VALUE_BYTES`]: they are then kept in parts. Costs one read for each write.
    const LARGE: bool;
    /// The type of its keys.
    type Key: Key + Send + 'static;
    /// The type of its values.
    type Value: Value + Send + 'static;
}

/// The most bytes a value may have, except in tables declared `large`. A networked engine could not hold more in one row.
pub const MAX_VALUE_BYTES: usize = 90_000;

/// A table as the engines see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableInfo {
    /// The table's number.
    pub(crate) id: TableId,
    /// The table's name.
    pub(crate) name: &'static str,
    /// See [`Table::LARGE`].
    pub(crate) large: bool,
}

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a value of table {table} cannot be read: {reason}")]
pub struct CorruptValue {
    /// The table.
    pub table: &'static str,
    /// What is wrong with the bytes.
    pub reason: String,
}

/// A value's bytes: a version, then the rest.
pub trait Value: Sized {
    /// The bytes, and the offset at which the committer writes the batch's position, if the value asks for it.
    fn encode(&self) -> (Vec<u8>, Option<usize>);
    /// Reads the bytes; the error says what is wrong with them.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

/// A value that serde knows, stored as its version byte and `postcard`.
pub trait Versioned: Serialize + DeserializeOwned {
    /// The version that is written.
    const VERSION: u8;

    /// Reads what an older version of the server wrote. `bytes` come after the version byte.
    fn migrate(version: u8, bytes: &[u8]) -> Result<Self, String> {
        let _ = bytes;
        Err(format!("unknown version {version}"))
    }
}

fn decode_versioned<V: Versioned>(bytes: &[u8]) -> Result<V, String> {
    match bytes.split_first() {
        Some((&version, rest)) if version == V::VERSION => postcard::from_bytes(rest).map_err(|e| e.to_string()),
        Some((&version, rest)) => V::migrate(version, rest),
        None => Err("empty".to_owned()),
    }
}

impl<V: Versioned> Value for V {
    fn encode(&self) -> (Vec<u8>, Option<usize>) {
        let bytes = postcard::to_extend(self, vec![V::VERSION]).expect("stored values serialise");
        (bytes, None)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        decode_versioned(bytes)
    }
}

/// A value together with the position of the batch that wrote it: 8 bytes in front of the value's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positioned<V> {
    /// The position; [`StreamPosition::PENDING`] to have the committer fill it in.
    pub position: StreamPosition,
    /// The value.
    pub value: V,
}

impl<V> Positioned<V> {
    /// A value to be stamped with the position of its batch.
    pub fn pending(value: V) -> Self {
        Self { position: StreamPosition::PENDING, value }
    }
}

impl<V: Versioned> Value for Positioned<V> {
    fn encode(&self) -> (Vec<u8>, Option<usize>) {
        let mut bytes = self.position.0.to_be_bytes().to_vec();
        bytes.push(V::VERSION);
        let bytes = postcard::to_extend(&self.value, bytes).expect("stored values serialise");
        (bytes, (self.position == StreamPosition::PENDING).then_some(0))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (position, rest) = bytes.split_first_chunk::<8>().ok_or("shorter than a position")?;
        Ok(Self { position: StreamPosition(u64::from_be_bytes(*position)), value: decode_versioned(rest)? })
    }
}

/// Bytes that are stored as they are: JSON as it was received, encoded tree nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

impl Value for Raw {
    fn encode(&self) -> (Vec<u8>, Option<usize>) {
        (self.0.clone(), None)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self(bytes.to_vec()))
    }
}

/// Nothing: the key says it all.
impl Value for () {
    fn encode(&self) -> (Vec<u8>, Option<usize>) {
        (Vec::new(), None)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() { Ok(()) } else { Err("expected nothing".to_owned()) }
    }
}
