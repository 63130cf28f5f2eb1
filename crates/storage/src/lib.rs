//! Ordered keys, atomic batches, typed tables and views: the one place where anything is kept.
//!
//! Reads go through a [`View`], a snapshot that knows its stream position. Writes are only [`Storage::commit`] of a
//! [`Batch`]: asserts and operations that take effect together or not at all, durable before they are visible.
//! What is kept where is said in [`schema`].
//!
//! A commit goes from [`Storage::commit`] to `committer` (groups, durability, positions), is judged and turned into rows by `group`, and is
//! written by an `engine`. Tests make the committer fail with [`Faults`], and let a store in memory crash and come back with a [`MemoryDisk`].

mod batch;
mod committer;
mod engine;
mod faults;
mod group;
mod key;
mod large;
mod meters;
mod migrate;
mod open;
mod range;
pub mod schema;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use batch::{Assert, Batch, Op};
pub use engine::MemoryDisk;
pub use faults::{Fault, Faults, Step};
pub use key::{Key, KeyBytes, KeyPart, Text};
pub use open::{Durability, OpenError, Options, Place};
pub use range::{Direction, KeyRange};
pub use store::{CommitError, CopyError, MAX_BATCH_BYTES, NumberError, Storage};
pub use table::{CorruptValue, MAX_VALUE_BYTES, Positioned, Raw, Table, TableId, Value, Versioned};
pub use view::{KeyPage, MAX_PAGE_BYTES, MAX_PAGE_ROWS, Page, ReadError, View};
