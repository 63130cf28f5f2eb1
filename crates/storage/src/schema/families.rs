//! Which tables lie together on engines that keep separate families of rows. A family's name never changes once data is in it.

/// How the rows of a family are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// One by one, often for keys that are not there.
    Point,
    /// In ranges, or one by one for keys that are there.
    Scan,
    /// Rows of JSON, large and compressible.
    Json,
}

/// Tables that lie together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// Its name on disk.
    pub(crate) name: &'static str,
    /// How its rows are read.
    pub(crate) access: Access,
    /// Its tables' numbers, first and last.
    tables: (u8, u8),
}

const fn family(name: &'static str, access: Access, first: u8, last: u8) -> Family {
    Family { name, access, tables: (first, last) }
}

/// Every family. Together they cover every table number; `default` is the name that the engine insists on.
pub(crate) const ALL: &[Family] = &[
    family("default", Access::Scan, 0, 8),
    family("chunk", Access::Json, 9, 9),
    family("room", Access::Point, 10, 11),
    family("room_head", Access::Scan, 12, 12),
    family("event_header", Access::Scan, 13, 13),
    family("event_json", Access::Json, 14, 14),
    family("event_id", Access::Point, 15, 15),
    family("event_local", Access::Point, 16, 16),
    family("timeline", Access::Scan, 17, 19),
    family("room_log", Access::Scan, 20, 20),
    family("user_log", Access::Scan, 21, 21),
    family("slot", Access::Point, 22, 23),
    family("state_node", Access::Scan, 24, 24),
    family("relation", Access::Scan, 25, 26),
    family("membership", Access::Point, 27, 29),
    family("room_rest", Access::Point, 30, 49),
    family("account", Access::Point, 50, 53),
    family("token", Access::Point, 54, 57),
    family("profile", Access::Point, 58, 59),
    family("transaction", Access::Point, 60, 60),
    family("user_rest", Access::Point, 61, 89),
    family("delayed", Access::Point, 90, 90),
    family("delayed_timer", Access::Point, 91, 91),
    family("delayed_rest", Access::Point, 92, 99),
    family("job", Access::Scan, 100, 109),
    family("rest", Access::Scan, 110, 255),
];

/// The place in [`ALL`] of each table's family, by table number.
static BY_TABLE: [u8; 256] = {
    let mut by_table = [0; 256];
    let mut index: u8 = 0;
    while (index as usize) < ALL.len() {
        let (mut table, last) = (ALL[index as usize].tables.0 as usize, ALL[index as usize].tables.1 as usize);
        while table <= last {
            by_table[table] = index;
            table += 1;
        }
        index += 1;
    }
    by_table
};

/// The family of a table.
pub(crate) fn of(table: u8) -> &'static Family {
    &ALL[usize::from(BY_TABLE[usize::from(table)])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_number_has_one_family() {
        let mut next = 0_u16;
        for family in ALL {
            assert_eq!(u16::from(family.tables.0), next, "{}", family.name);
            next = u16::from(family.tables.1) + 1;
            assert_eq!(of(family.tables.0).name, family.name);
            assert_eq!(of(family.tables.1).name, family.name);
        }
        assert_eq!(next, 256);
    }
}
