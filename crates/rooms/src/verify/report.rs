//! What a check found.

use std::fmt;

use storage::ReadError;

/// Faults that a report lists; of more it only says how many.
const MAX_LISTED: usize = 100;

/// What a check of rooms found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rooms that were checked.
    pub rooms: u64,
    /// Rooms that are being purged, which were not.
    pub purging: u64,
    /// Rooms that are being put together, which nobody sees.
    pub staged: u64,
    /// Events that were checked.
    pub events: u64,
    /// States that were resolved again, because an event follows several.
    pub resolved: u64,
    /// States before events that nothing here can tell: events before them are missing, and another server said what the state was.
    pub given: u64,
    /// The first faults.
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The room, or what else it is about.
    pub place: String,
    /// What kind of fault it is.
    pub kind: FaultKind,
    /// What is wrong.
    pub what: String,
}

/// The kinds of faults, one for each group of rows that must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A row is missing that another names, or makes no sense.
    Unreadable,
    /// The room's own rows: its name, its head, its counters.
    Room,
    /// An event's header and its JSON.
    Header,
    /// An event's JSON and its hashes.
    Hash,
    /// An event and the row that finds it by its id; an event that is there twice.
    EventId,
    /// An event and the events that authorise it.
    Auth,
    /// An event and the events that it follows.
    Prev,
    /// Positions, ranks, timeline and gaps.
    Order,
    /// The room's log, and what tells of receipts and account data.
    Log,
    /// The extremities.
    Extremities,
    /// A state and the events that lead to it.
    State,
    /// The slots of types and state keys.
    Slots,
    /// The memberships of local users and what is kept of other servers' users.
    Members,
    /// Relations.
    Relations,
    /// Redactions.
    Redactions,
    /// Aliases.
    Aliases,
    /// What is kept beside events of their sending: devices, transactions.
    Sending,
}

impl Report {
    /// Whether there is no fault.
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    pub(super) fn fault(&mut self, place: &str, kind: FaultKind, what: String) {
        self.fault_count += 1;
        if self.faults.len() < MAX_LISTED {
            self.faults.push(Fault { place: place.to_owned(), kind, what });
        }
    }

    /// What was read; `None` if there was a row that makes no sense, which is noted.
    pub(super) fn readable<T>(&mut self, place: &str, read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(ReadError::Corrupt(error)) => {
                self.fault(place, FaultKind::Unreadable, error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rooms, purging, staged, events, resolved, given, faults, fault_count } = self;
        write!(f, "rooms: {rooms}, events: {events}, states resolved again: {resolved}")?;
        for (count, what) in [
            (purging, "rooms being purged"),
            (staged, "rooms being put together"),
            (given, "states given by other servers"),
        ] {
            if *count > 0 {
                write!(f, ", {what}: {count}")?;
            }
        }
        write!(f, ", faults: {fault_count}")?;
        for fault in faults {
            write!(f, "\n{fault}")?;
        }
        let unlisted = fault_count - faults.len() as u64;
        if unlisted > 0 { write!(f, "\nand {unlisted} more") } else { Ok(()) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.place, self.kind, self.what)
    }
}
