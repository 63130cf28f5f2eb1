//! The bytes of every table's keys and values. A change here is a change of the schema: it needs a new version and a migration.
//!
//! Accounts, delayed events, jobs and what is known of other servers have theirs beside their tables.

mod account_data;
mod history;
mod key_backup;
mod keys;
mod meta;
mod push;
mod receipts;
mod remote_devices;
mod rooms;
mod services;
mod to_device;

use std::fmt::Write as _;

use super::{MODULES, delayed, federation, jobs, testing, users};
use crate::{Key, Table, Value};

/// Rows of some tables, as text.
#[derive(Default)]
struct Golden {
    text: String,
    tables: Vec<u8>,
}

impl Golden {
    /// Adds a row, and checks that it reads back.
    #[expect(clippy::needless_pass_by_value, reason = "the rows are easier to read without ampersands")]
    fn row<T: Table>(&mut self, key: T::Key, value: T::Value) -> &mut Self
    where
        T::Value: PartialEq + std::fmt::Debug,
    {
        let (key_bytes, value_bytes) = bytes::<T>(&key, &value);
        let large = if T::LARGE { " large" } else { "" };
        writeln!(self.text, "{} {}{large}: {} = {}", T::ID.0, T::NAME, show(&key_bytes), show(&value_bytes))
            .expect("text grows");
        self.tables.push(T::ID.0);
        self
    }
}

/// A row's bytes, and proof that they read back.
fn bytes<T: Table>(key: &T::Key, value: &T::Value) -> (Vec<u8>, Vec<u8>)
where
    T::Value: PartialEq + std::fmt::Debug,
{
    let (key_bytes, key_stamp) = key.to_bytes().into_parts();
    let (value_bytes, value_stamp) = value.encode();
    assert_eq!((key_stamp, value_stamp), (None, None), "golden rows have their positions");
    let read = T::Key::from_bytes(&key_bytes).expect("own key reads back");
    assert_eq!(read.to_bytes().as_slice(), key_bytes);
    assert_eq!(&T::Value::decode(&value_bytes).expect("own value reads back"), value);
    (key_bytes, value_bytes)
}

/// A row as one line, all in hexadecimal, checked to read back: for tables whose golden rows stand beside them.
pub(super) fn golden<T: Table>(key: &T::Key, value: &T::Value) -> String
where
    T::Value: PartialEq + std::fmt::Debug,
{
    let (key, value) = bytes::<T>(key, value);
    format!("{} {} = {}", T::NAME, hex(&key), hex(&value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Bytes in hexadecimal, but runs of three and more printable characters as text.
fn show(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    let mut out = String::new();
    let readable = |b: &u8| b.is_ascii_graphic();
    for run in bytes.chunk_by(|a, b| readable(a) == readable(b)) {
        let piece = match std::str::from_utf8(run) {
            Ok(text) if readable(&run[0]) && run.len() > 2 => format!("'{text}'"),
            _ => hex(run),
        };
        let separator = if out.is_empty() || !(out.ends_with('\'') || piece.starts_with('\'')) { "" } else { " " };
        out = out + separator + &piece;
    }
    out
}

#[test]
fn every_table_has_a_golden_row() {
    let golden = [
        meta::rows(),
        push::rows(),
        rooms::rows(),
        history::rows(),
        services::rows(),
        receipts::rows(),
        account_data::rows(),
        to_device::rows(),
        key_backup::rows(),
        keys::rows(),
        remote_devices::rows(),
    ];
    let covered: Vec<u8> = golden.into_iter().flat_map(|golden| golden.tables).collect();
    let beside = [users::TABLES, delayed::TABLES, jobs::TABLES, federation::TABLES, testing::TABLES].concat();
    for table in MODULES.iter().copied().flatten() {
        let elsewhere = beside.iter().any(|t| t.id == table.id);
        assert!(elsewhere || covered.contains(&table.id.0), "table {} has no golden row", table.name);
    }
}
