//! The end of one room's log, in memory.

use std::collections::VecDeque;

use primitives::StreamPosition;
use storage::schema::rooms::RoomLogEntry;

/// Rows kept of one room.
const ROWS: usize = 16;

/// A row of a room's log: where it stands, and what it says.
pub(crate) type LogRow = ((StreamPosition, u16), RoomLogEntry);

/// The newest rows of a room's log.
#[derive(Debug)]
pub(super) struct Tail {
    /// All rows after this position are here.
    after: StreamPosition,
    /// In their order.
    rows: VecDeque<LogRow>,
}

impl Tail {
    /// The end of a log of which nothing before this position is known.
    pub(super) fn before(position: StreamPosition) -> Self {
        Self { after: StreamPosition(position.0.saturating_sub(1)), rows: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds all rows of a commit. Commits may confirm in another order than that of their positions.
    pub(super) fn add(&mut self, position: StreamPosition, entries: &[RoomLogEntry]) {
        if position <= self.after {
            return;
        }
        if entries.len() > ROWS {
            return self.forget(position);
        }
        let at = self.rows.partition_point(|((known, _), _)| *known < position);
        for (index, entry) in (0..).zip(entries) {
            self.rows.insert(at + usize::from(index), ((position, index), entry.clone()));
        }
        while self.rows.len() > ROWS {
            let ((oldest, _), _) = self.rows[0];
            self.forget(oldest);
        }
    }

    /// Keeps nothing of this position and what was before.
    pub(super) fn forget(&mut self, position: StreamPosition) {
        self.after = self.after.max(position);
        while self.rows.front().is_some_and(|((oldest, _), _)| *oldest <= self.after) {
            self.rows.pop_front();
        }
    }

    /// The rows after `since` and up to `upto`, newest first; `None` if they may not all be here.
    pub(super) fn between(&self, since: StreamPosition, upto: StreamPosition) -> Option<Vec<LogRow>> {
        if since < self.after {
            return None;
        }
        let wanted = self.rows.iter().rev().take_while(|((position, _), _)| *position > since);
        Some(wanted.filter(|((position, _), _)| *position <= upto).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: u64) -> RoomLogEntry {
        RoomLogEntry::DeviceChange { user_id: format!("@{name}:x") }
    }

    #[test]
    fn as_much_is_kept_as_fits_and_commits_are_kept_whole() {
        let mut tail = Tail::before(StreamPosition(10));
        for position in 10..=10 + ROWS as u64 / 2 {
            tail.add(StreamPosition(position), &[entry(position), entry(position)]);
        }
        assert_eq!(tail.len(), ROWS);
        assert_eq!(tail.between(StreamPosition(9), StreamPosition(99)), None);
        let rows = tail.between(StreamPosition(10), StreamPosition(11)).expect("all of it is here");
        assert_eq!(rows, [((StreamPosition(11), 1), entry(11)), ((StreamPosition(11), 0), entry(11))]);
        let many: Vec<_> = (0..=ROWS as u64).map(entry).collect();
        tail.add(StreamPosition(50), &many);
        assert_eq!((tail.len(), tail.between(StreamPosition(49), StreamPosition(99))), (0, None));
        assert_eq!(tail.between(StreamPosition(50), StreamPosition(99)), Some(vec![]));
        tail.add(StreamPosition(49), &[entry(49)]);
        assert_eq!(tail.len(), 0, "what is older is not put back");
    }
}
