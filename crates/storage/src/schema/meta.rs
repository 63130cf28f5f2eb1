//! What the database says of itself. Table numbers 1–9.

use serde::{Deserialize, Serialize};

use crate::{Raw, Text, table::Versioned};

use super::tables;

tables! {
    /// The database's own row, under the empty key. Written once when it is made, and by migrations and restores.
    Database = 1, "database", () => DatabaseRow;
    /// The position of the newest batch, under the empty key. Every commit writes it.
    Position = 2, "position", () => u64;
    /// Dense numbers: how many have been handed out, by name of the series. Guarded by `Equals`.
    Counters = 3, "counter", (Text,) => u32;
    /// The parts of values of `large` tables: the row key that the value belongs to, then the part's number, 2 bytes. Written by the committer.
    Chunks = 9, "chunk", (Vec<u8>,) => Raw;
}

/// The version of the schema that this build reads and writes.
pub(crate) const SCHEMA: u32 = 1;

/// What a database is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseRow {
    /// The version of the schema that the data follows.
    pub schema: u32,
    /// The server whose data this is.
    pub server_name: String,
    /// Changes when the database is restored from a copy; part of every sync token.
    pub epoch: u64,
    /// The secret of the keyed hashes in table keys.
    pub hash_key: [u8; 16],
}

impl Versioned for DatabaseRow {
    const VERSION: u8 = 1;
}
impl Versioned for u64 {
    const VERSION: u8 = 1;
}
impl Versioned for u32 {
    const VERSION: u8 = 1;
}
