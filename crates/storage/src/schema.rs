//! Every table: its key, its value, and who writes it. Keys are tuples whose bytes sort as they do; values carry a version.
//!
//! A table is declared once, here or in one of the modules below, and its bytes are golden-tested. Numbers of tables are never reused.

pub mod account_data;
pub mod delayed;
pub(crate) mod families;
pub mod federation;
#[cfg(test)]
mod golden;
pub mod history;
pub mod jobs;
pub mod key_backup;
pub mod keys;
pub mod meta;
pub mod push;
pub mod receipts;
pub mod remote_devices;
pub mod rooms;
pub mod services;
#[cfg(test)]
pub mod testing;
pub mod to_device;
pub mod users;

use crate::{TableId, table::TableInfo};

/// Declares tables: `Name = number, "name", (Key,) => Value;` or, for values that may be over [`crate::MAX_VALUE_BYTES`], `Name = number, "name", (Key,) => Value, large;`
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal, $key:ty => $value:ty $(, $large:ident)?;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl crate::Table for $name {
                const ID: crate::TableId = crate::TableId($id);
                const NAME: &'static str = $text;
                const LARGE: bool = crate::schema::tables!(@large $($large)?);
                type Key = $key;
                type Value = $value;
            }
        )*

        /// The tables of this module.
        pub(crate) const TABLES: &[crate::table::TableInfo] = &[$(crate::table::TableInfo {
            id: crate::TableId($id),
            name: $text,
            large: crate::schema::tables!(@large $($large)?),
        }),*];
    };
    (@large large) => { true };
    (@large) => { false };
}
pub(crate) use tables;

/// Says that values are encoded in their first version.
macro_rules! version_one {
    ($($name:ty),* $(,)?) => {$(
        impl crate::table::Versioned for $name {
            const VERSION: u8 = 1;
        }
    )*};
}
pub(crate) use version_one;

/// All tables, by module.
pub(crate) const MODULES: &[&[TableInfo]] = &[
    meta::TABLES,
    rooms::TABLES,
    receipts::TABLES,
    history::TABLES,
    users::TABLES,
    account_data::TABLES,
    push::TABLES,
    keys::TABLES,
    delayed::TABLES,
    jobs::TABLES,
    services::TABLES,
    to_device::TABLES,
    key_backup::TABLES,
    remote_devices::TABLES,
    federation::TABLES,
    #[cfg(test)]
    testing::TABLES,
];

/// By number: whether the table's values may be kept in parts.
static LARGE: [bool; 256] = {
    let mut large = [false; 256];
    let mut module = 0;
    while module < MODULES.len() {
        let mut table = 0;
        while table < MODULES[module].len() {
            let info = MODULES[module][table];
            large[info.id.0 as usize] = info.large;
            table += 1;
        }
        module += 1;
    }
    large
};

/// Whether values of the table may be over [`crate::MAX_VALUE_BYTES`].
pub(crate) fn is_large(table: TableId) -> bool {
    LARGE[usize::from(table.0)]
}

/// The table's name, for messages.
pub(crate) fn name(table: TableId) -> &'static str {
    let mut all = MODULES.iter().copied().flatten();
    all.find(|t| t.id == table).map_or("unknown", |t| t.name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{MODULES, TableInfo};

    #[test]
    fn no_number_and_no_name_is_used_twice() {
        let all: Vec<&TableInfo> = MODULES.iter().copied().flatten().collect();
        let ids: HashSet<_> = all.iter().map(|t| t.id).collect();
        let names: HashSet<_> = all.iter().map(|t| t.name).collect();
        assert_eq!((ids.len(), names.len()), (all.len(), all.len()));
        assert!(all.iter().all(|t| (1..255).contains(&t.id.0)));
    }
}
