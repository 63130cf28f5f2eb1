//! The rooms in the order of their newest rows, so that whoever follows all rooms looks at no quiet one.

use std::collections::{BTreeMap, BTreeSet};

use primitives::RoomNid;

/// Which rooms were written to last.
#[derive(Debug, Default)]
pub(super) struct Newest {
    /// By the position of the newest row that is known.
    rooms: BTreeSet<(u64, RoomNid)>,
    /// How many commits are under way in each room that has any.
    writing: BTreeMap<RoomNid, u32>,
}

impl Newest {
    /// A commit to a room begins.
    pub(super) fn begins(&mut self, room: RoomNid) {
        *self.writing.entry(room).or_default() += 1;
    }

    /// A commit to a room is over.
    pub(super) fn ends(&mut self, room: RoomNid) {
        if let Some(commits) = self.writing.get_mut(&room) {
            *commits -= 1;
            if *commits == 0 {
                self.writing.remove(&room);
            }
        }
    }

    /// A room's newest row, known to be at `before` (0: not known), is at `last`.
    pub(super) fn moves(&mut self, room: RoomNid, before: u64, last: u64) {
        if before < last {
            self.rooms.remove(&(before, room));
            self.rooms.insert((last, room));
        }
    }

    /// The rooms with a row after a position or with a commit under way, by their numbers.
    pub(super) fn since(&self, since: u64) -> Vec<RoomNid> {
        let changed = self.rooms.range((since.saturating_add(1), RoomNid(0))..).map(|(_, room)| *room);
        let all: BTreeSet<_> = changed.chain(self.writing.keys().copied()).collect();
        all.into_iter().collect()
    }
}
