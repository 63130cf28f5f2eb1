//! Every table: its key, its value, and who writes it. Keys are tuples whose bytes sort as they do; values carry a version.
//!
//! A table is declared once, here or in one of the modules below, and its bytes are golden-tested. Numbers of tables are never reused.

pub mod delayed;
pub mod jobs;
pub mod meta;
pub mod rooms;
pub mod users;

/// Declares tables: `Name = number, "name", (Key,) => Value;`
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal, $key:ty => $value:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl crate::Table for $name {
                const ID: crate::TableId = crate::TableId($id);
                const NAME: &'static str = $text;
                type Key = $key;
                type Value = $value;
            }
        )*

        /// The tables of this module: number and name.
        pub(crate) const TABLES: &[(crate::TableId, &str)] = &[$((crate::TableId($id), $text)),*];
    };
}
pub(crate) use tables;

/// All tables: number and name, in the order of their modules.
pub(crate) fn all() -> Vec<(crate::TableId, &'static str)> {
    [meta::TABLES, rooms::TABLES, users::TABLES, delayed::TABLES, jobs::TABLES].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn no_number_and_no_name_is_used_twice() {
        let all = super::all();
        let ids: HashSet<_> = all.iter().map(|t| t.0).collect();
        let names: HashSet<_> = all.iter().map(|t| t.1).collect();
        assert_eq!((ids.len(), names.len()), (all.len(), all.len()));
    }
}
