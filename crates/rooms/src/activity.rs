//! Which rooms changed since when, in memory: what lets an incremental sync of a thousand quiet rooms read nothing.
//!
//! The writer of a room announces a commit *before* it is visible and confirms it afterwards. In between, the room counts as changed,
//! so that no reader whose view already shows the commit can take the room for quiet (I10). After a restart nothing is known of a
//! room until it is written to or its log is read; the reader then asks the log.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
};

use parking_lot::RwLock;
use primitives::{RoomNid, StreamPosition};

#[derive(Debug, Default)]
struct Entry {
    /// The position of the newest row of the room's log and that of its receipts that is known; 0: none is known.
    last: AtomicU64,
    /// Of the newest row that is known to tell who is in the room or whose devices changed: at or after its position. 0: none is known.
    lists: AtomicU64,
    /// How many commits are under way.
    writing: AtomicU32,
    /// Whether any event of the room has been redacted: one of the constants below.
    redactions: AtomicU8,
}

/// Nobody has looked.
const UNKNOWN: u8 = 0;
/// Somebody has looked, and nothing was redacted since.
const NONE: u8 = 1;
/// There are some, or there is about to be one.
const SOME: u8 = 2;

/// Whether a room's log has rows after a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It has none.
    Quiet,
    /// It has some, or a commit is under way.
    Changed,
    /// Not known: read the log, and tell [`RoomActivity::learn`].
    Unknown,
}

/// The position of the newest row of each room's log. Cheap to share.
#[derive(Debug, Default)]
pub struct RoomActivity {
    /// By room number, which are dense.
    rooms: RwLock<Vec<Entry>>,
}

/// A commit to a room's log that is under way. Dropped without [`Writing::committed`], it failed.
#[derive(Debug)]
pub struct Writing {
    activity: Arc<RoomActivity>,
    room: RoomNid,
    lists: bool,
}

impl RoomActivity {
    /// Announces a commit that appends to a room's log or that of its receipts. Call it before [`storage::Storage::commit`], whoever appends.
    pub fn writing(self: &Arc<Self>, room: RoomNid) -> Writing {
        self.entry(room, |entry| entry.writing.fetch_add(1, Ordering::SeqCst));
        Writing { activity: Arc::clone(self), room, lists: false }
    }

    /// Remembers that a view at any position showed `last` as the position of the newest row of a room's logs.
    pub fn learn(&self, room: RoomNid, last: StreamPosition) {
        // A room without a row is remembered by the lowest position, which no commit has.
        self.entry(room, |entry| entry.last.fetch_max(last.0.max(1), Ordering::SeqCst));
    }

    /// For each of the rooms, in their order, whether its logs have rows after `since`. Take the view first, ask afterwards.
    pub fn since(&self, rooms: &[RoomNid], since: StreamPosition) -> Vec<Activity> {
        let entries = self.rooms.read();
        rooms
            .iter()
            .map(|room| entries.get(room.0 as usize).map_or(Activity::Unknown, |entry| entry.since(&entry.last, since)))
            .collect()
    }

    /// The rooms whose logs have rows after `since`, as far as is known here, or are about to. Take the view first, ask afterwards.
    pub fn changed_since(&self, since: StreamPosition) -> Vec<RoomNid> {
        let entries = self.rooms.read();
        let changed =
            entries.iter().enumerate().filter(|(_, entry)| entry.since(&entry.last, since) == Activity::Changed);
        changed.filter_map(|(nid, _)| u32::try_from(nid).ok().map(RoomNid)).collect()
    }

    /// Whether a room's log has rows after `since` that tell who is in the room or whose devices changed. Take the view first, ask afterwards.
    pub fn lists_since(&self, room: RoomNid, since: StreamPosition) -> Activity {
        self.entry(room, |entry| entry.since(&entry.lists, since))
    }

    /// Remembers that a view showed no such row after this position.
    pub fn learn_lists(&self, room: RoomNid, last: StreamPosition) {
        self.entry(room, |entry| entry.lists.fetch_max(last.0.max(1), Ordering::SeqCst));
    }

    /// Announces that an event of a room is to be redacted. Call it before the commit.
    pub fn redacts(&self, room: RoomNid) {
        self.entry(room, |entry| entry.redactions.store(SOME, Ordering::SeqCst));
    }

    /// Whether any event of a room has been redacted, as far as is known.
    pub fn has_redactions(&self, room: RoomNid) -> Option<bool> {
        match self.entry(room, |entry| entry.redactions.load(Ordering::SeqCst)) {
            UNKNOWN => None,
            state => Some(state == SOME),
        }
    }

    /// Remembers that a view showed no redaction in a room. One that has been announced since stays announced.
    pub fn learn_no_redactions(&self, room: RoomNid) {
        self.entry(room, |entry| {
            entry.redactions.compare_exchange(UNKNOWN, NONE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        });
    }

    fn entry<R>(&self, room: RoomNid, use_it: impl Fn(&Entry) -> R) -> R {
        let index = room.0 as usize;
        if let Some(entry) = self.rooms.read().get(index) {
            return use_it(entry);
        }
        let mut rooms = self.rooms.write();
        if rooms.len() <= index {
            rooms.resize_with(index + 1, Entry::default);
        }
        use_it(&rooms[index])
    }
}

impl Entry {
    fn since(&self, last: &AtomicU64, since: StreamPosition) -> Activity {
        if self.writing.load(Ordering::SeqCst) > 0 {
            return Activity::Changed;
        }
        match last.load(Ordering::SeqCst) {
            0 => Activity::Unknown,
            last if last > since.0 => Activity::Changed,
            _ => Activity::Quiet,
        }
    }
}

impl Writing {
    /// Says whether the commit tells who is in the room or whose devices changed.
    #[must_use]
    pub fn of_lists(mut self, lists: bool) -> Self {
        self.lists = lists;
        self
    }

    /// Confirms the commit. Call it before anybody is woken.
    pub fn committed(self, position: StreamPosition) {
        self.activity.learn(self.room, position);
        if self.lists {
            self.activity.learn_lists(self.room, position);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.activity.entry(self.room, |entry| entry.writing.fetch_sub(1, Ordering::SeqCst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomNid = RoomNid(3);

    fn asked(activity: &RoomActivity, since: u64) -> Activity {
        activity.since(&[ROOM], StreamPosition(since))[0]
    }

    #[test]
    fn i10_a_room_counts_as_changed_from_before_its_commit_is_visible() {
        let activity = Arc::new(RoomActivity::default());
        assert_eq!(asked(&activity, 5), Activity::Unknown);
        activity.learn(ROOM, StreamPosition(4));
        assert_eq!(asked(&activity, 5), Activity::Quiet);
        let writing = activity.writing(ROOM);
        assert_eq!(asked(&activity, 5), Activity::Changed);
        writing.committed(StreamPosition(6));
        assert_eq!(asked(&activity, 5), Activity::Changed);
        assert_eq!(asked(&activity, 6), Activity::Quiet);
        assert_eq!(
            (activity.changed_since(StreamPosition(5)), activity.changed_since(StreamPosition(6))),
            (vec![ROOM], vec![])
        );
    }

    #[test]
    fn a_failed_commit_leaves_nothing_behind_and_an_old_reading_does_not_go_back() {
        let activity = Arc::new(RoomActivity::default());
        activity.learn(ROOM, StreamPosition(9));
        drop(activity.writing(ROOM));
        activity.learn(ROOM, StreamPosition(7));
        assert_eq!(asked(&activity, 9), Activity::Quiet);
        assert_eq!(asked(&activity, 8), Activity::Changed);
        activity.learn(RoomNid(1), StreamPosition::ZERO);
        assert_eq!(activity.since(&[RoomNid(1), RoomNid(2)], StreamPosition(1)), [Activity::Quiet, Activity::Unknown]);
    }

    #[test]
    fn a_redaction_that_is_announced_is_not_forgotten_for_an_older_view() {
        let activity = Arc::new(RoomActivity::default());
        assert_eq!(activity.has_redactions(ROOM), None);
        activity.learn_no_redactions(ROOM);
        assert_eq!(activity.has_redactions(ROOM), Some(false));
        activity.redacts(ROOM);
        activity.learn_no_redactions(ROOM);
        assert_eq!(activity.has_redactions(ROOM), Some(true));
    }
}
