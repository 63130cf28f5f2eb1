//! What a check found.

use std::fmt;

use crate::timers::Key;

/// Faults that a report lists; of more it only says how many.
const MAX_LISTED: usize = 100;

/// What a check of delayed events found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that are scheduled.
    pub scheduled: u64,
    /// Events that have ended and are kept.
    pub ended: u64,
    /// Groups.
    pub groups: u64,
    /// The first faults. They name an event or a group by the front of its hash: the ids are secrets.
    pub faults: Vec<String>,
    /// How many faults there are.
    pub fault_count: u64,
}

impl Report {
    /// Whether there is no fault.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    pub(super) fn fault(&mut self, key: &Key, what: &str) {
        self.fault_count += 1;
        if self.faults.len() >= MAX_LISTED {
            return;
        }
        let [a, b, c, d, ..] = *key;
        let named = if *key == Key::default() { String::new() } else { format!(" {a:02x}{b:02x}{c:02x}{d:02x}") };
        self.faults.push(format!("delayed events{named}: {what}"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheduled, ended, groups, faults, fault_count } = self;
        write!(f, "delayed events scheduled: {scheduled}, ended: {ended}, groups: {groups}, faults: {fault_count}")?;
        for fault in faults {
            write!(f, "\n{fault}")?;
        }
        let unlisted = fault_count - faults.len() as u64;
        if unlisted > 0 { write!(f, "\nand {unlisted} more") } else { Ok(()) }
    }
}
