//! Ordered keys, atomic batches, typed tables and views: the one place where anything is kept.
//!
//! Reads go through a [`View`], a snapshot that knows its stream position. Writes are only [`Storage::commit`] of a
//! [`Batch`]: asserts and operations that take effect together or not at all, durable before they are visible.
//! What is kept where is said in [`schema`].

mod batch;
mod key;
pub mod schema;
mod store;
mod table;

pub use batch::{Assert, Batch, Op};
pub use key::{Key, KeyBytes, KeyPart, Text};
pub use table::{CorruptValue, Positioned, Raw, Table, TableId, Value, Versioned};
pub use store::{CommitError, Direction, KeyRange, Page, ReadError, Storage, View};
