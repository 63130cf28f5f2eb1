//! Which rooms changed since when, in memory: what lets an incremental sync of a thousand quiet rooms read nothing.
//!
//! The writer of a room announces a commit *before* it is visible and confirms it afterwards. In between, the room counts as changed,
//! so that no reader whose view already shows the commit can take the room for quiet (I10). After a restart nothing is known of a
//! room until it is written to or its log is read; the reader then asks the log.

mod mark;
mod newest;
mod stamps;
mod tail;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use primitives::{RoomNid, StreamPosition, UserNid};
use storage::schema::rooms::RoomLogEntry;
use tokio::sync::Notify;

use mark::Mark;
use newest::Newest;
use stamps::{Announced, Stamps};
pub(crate) use tail::LogRow;
use tail::Tail;

/// Rows of all rooms' logs that are kept in memory.
const ROWS_IN_MEMORY: usize = 50_000;

#[derive(Debug, Default)]
struct Entry {
    /// The position of the newest row of the room's log and that of its receipts that is known; 0: none is known.
    last: AtomicU64,
    /// Of the newest row that is known to tell who is in the room or whose devices changed: at or after its position. 0: none is known.
    lists: AtomicU64,
    /// Of the newest receipt that is known: at or after its position. 0: none is known.
    receipts: AtomicU64,
    /// The end of the room's log.
    tail: Mutex<Option<Box<Tail>>>,
    /// How many commits are under way.
    writing: AtomicU32,
    /// Whether any event of the room has been redacted.
    redactions: Mark,
    /// Whether a user of another server was ever in the room or asked into it.
    others: Mark,
}

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
    /// The rooms by the age of their newest rows, for those who follow all of them.
    newest: Mutex<Newest>,
    /// How many rows of logs are in memory.
    rows: AtomicUsize,
    /// The room whose rows go next when there are too many.
    next_to_go: AtomicUsize,
    /// Some commit is confirmed.
    news: Notify,
    /// By user: when they last came into a room or out of one.
    memberships: Arc<Stamps>,
    /// By room: when a local user last came in or went out.
    crowds: Arc<Stamps>,
}

/// A commit that changes the memberships of local users in a room and is under way. Dropped without [`Members::committed`], it failed.
#[derive(Debug)]
pub(crate) struct Members {
    memberships: Announced,
    crowds: Announced,
}

impl Members {
    /// Confirms the commit. Call it before anybody is woken.
    pub(crate) fn committed(self, position: StreamPosition) {
        self.memberships.committed(position);
        self.crowds.committed(position);
    }
}

/// A commit to a room's log that is under way. Dropped without [`Writing::committed`], it failed.
#[derive(Debug)]
pub struct Writing {
    activity: Arc<RoomActivity>,
    room: RoomNid,
    lists: bool,
    receipts: bool,
    /// What it appends to the room's log; `None`: not said.
    rows: Option<Vec<RoomLogEntry>>,
}

impl RoomActivity {
    /// Announces a commit that appends to a room's log or that of its receipts. Call it before [`storage::Storage::commit`], whoever appends.
    pub fn writing(self: &Arc<Self>, room: RoomNid) -> Writing {
        self.entry(room, |entry| entry.writing.fetch_add(1, Ordering::SeqCst));
        self.newest.lock().begins(room);
        Writing { activity: Arc::clone(self), room, lists: false, receipts: false, rows: None }
    }

    /// Announces a commit that changes the memberships of local users in a room. Call it before [`storage::Storage::commit`].
    pub(crate) fn changing_members(&self, room: RoomNid, users: &BTreeSet<UserNid>) -> Members {
        let rooms = if users.is_empty() { BTreeSet::new() } else { BTreeSet::from([room.0]) };
        Members {
            memberships: self.memberships.announce(users.iter().map(|user| user.0).collect()),
            crowds: self.crowds.announce(rooms),
        }
    }

    /// Whether the rooms that a user was in at a position, read since the start, are those that a view shows. Take the view first, ask afterwards.
    pub(crate) fn rooms_hold(&self, user: UserNid, read_at: StreamPosition, view_at: StreamPosition) -> bool {
        self.memberships.holds(user.0, read_at, view_at)
    }

    /// The same of the local users who were in a room.
    pub(crate) fn members_hold(&self, room: RoomNid, read_at: StreamPosition, view_at: StreamPosition) -> bool {
        self.crowds.holds(room.0, read_at, view_at)
    }

    /// Waits until a commit has been confirmed. For one follower; one that nobody waited for is not missed.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Remembers that a view at any position showed `last` as the position of the newest row of a room's logs.
    pub fn learn(&self, room: RoomNid, last: StreamPosition) {
        // A room without a row is remembered by the lowest position, which no commit has.
        let last = last.0.max(1);
        if self.entry(room, |entry| entry.last.load(Ordering::SeqCst)) >= last {
            return;
        }
        let mut newest = self.newest.lock();
        let before = self.entry(room, |entry| entry.last.fetch_max(last, Ordering::SeqCst));
        newest.moves(room, before, last);
    }

    /// For each of the rooms, in their order, whether its logs have rows after `since`. Take the view first, ask afterwards.
    pub fn since(&self, rooms: &[RoomNid], since: StreamPosition) -> Vec<Activity> {
        let entries = self.rooms.read();
        rooms
            .iter()
            .map(|room| entries.get(room.0 as usize).map_or(Activity::Unknown, |entry| entry.since(&entry.last, since)))
            .collect()
    }

    /// The rooms whose logs have rows after `since`, as far as is known here, or are about to: what quiet rooms there are costs nothing. Take the
    /// view first, ask afterwards.
    pub fn changed_since(&self, since: StreamPosition) -> Vec<RoomNid> {
        self.newest.lock().since(since.0)
    }

    /// Whether a room's log has rows after `since` that tell who is in the room or whose devices changed. Take the view first, ask afterwards.
    pub fn lists_since(&self, room: RoomNid, since: StreamPosition) -> Activity {
        self.entry(room, |entry| entry.since(&entry.lists, since))
    }

    /// Remembers that a view showed no such row after this position.
    pub fn learn_lists(&self, room: RoomNid, last: StreamPosition) {
        self.entry(room, |entry| entry.lists.fetch_max(last.0.max(1), Ordering::SeqCst));
    }

    /// Whether receipts have come in a room after `since`. Take the view first, ask afterwards.
    pub fn receipts_since(&self, room: RoomNid, since: StreamPosition) -> Activity {
        self.entry(room, |entry| entry.since(&entry.receipts, since))
    }

    /// Remembers that a view showed no receipt after this position.
    pub fn learn_receipts(&self, room: RoomNid, last: StreamPosition) {
        self.entry(room, |entry| entry.receipts.fetch_max(last.0.max(1), Ordering::SeqCst));
    }

    /// The rows of a room's log after `since` and up to `upto`, newest first, if all of them are in memory. Take the view first, ask afterwards;
    /// `upto` is at most its position.
    pub(crate) fn recent(&self, room: RoomNid, since: StreamPosition, upto: StreamPosition) -> Option<Vec<LogRow>> {
        self.entry(room, |entry| {
            // A commit that is visible already may not have said yet what it wrote.
            if entry.writing.load(Ordering::SeqCst) > 0 {
                return None;
            }
            entry.tail.lock().as_ref()?.between(since, upto)
        })
    }

    /// Forgets the rows of a room's log: some of them are not what they were.
    pub(crate) fn forget_rows(&self, room: RoomNid) {
        self.entry(room, |entry| {
            if let Some(tail) = entry.tail.lock().take() {
                self.rows.fetch_sub(tail.len(), Ordering::SeqCst);
            }
        });
    }

    /// Keeps what a commit appended to a room's log.
    fn keep(&self, room: RoomNid, position: StreamPosition, rows: Option<&[RoomLogEntry]>) {
        if rows.is_some_and(<[_]>::is_empty) {
            return;
        }
        self.entry(room, |entry| {
            let mut tail = entry.tail.lock();
            let tail = tail.get_or_insert_with(|| Box::new(Tail::before(position)));
            let before = tail.len();
            match rows {
                Some(rows) => tail.add(position, rows),
                None => tail.forget(position),
            }
            self.rows.fetch_add(tail.len(), Ordering::SeqCst);
            self.rows.fetch_sub(before, Ordering::SeqCst);
        });
        if self.rows.load(Ordering::SeqCst) > ROWS_IN_MEMORY {
            self.forget_some();
        }
    }

    /// Forgets the rows of some rooms, one after another in the order of their numbers, until there are few enough.
    fn forget_some(&self) {
        let rooms = self.rooms.read();
        for _ in 0..rooms.len() {
            let next = self.next_to_go.fetch_add(1, Ordering::SeqCst) % rooms.len();
            if let Some(tail) = rooms[next].tail.lock().take() {
                let left = self.rows.fetch_sub(tail.len(), Ordering::SeqCst) - tail.len();
                if left <= ROWS_IN_MEMORY {
                    return;
                }
            }
        }
    }

    /// Announces that an event of a room is to be redacted. Call it before the commit.
    pub fn redacts(&self, room: RoomNid) {
        self.entry(room, |entry| entry.redactions.announce());
    }

    /// Whether any event of a room has been redacted, as far as is known.
    pub fn has_redactions(&self, room: RoomNid) -> Option<bool> {
        self.entry(room, |entry| entry.redactions.known())
    }

    /// Remembers that a view showed no redaction in a room. One that has been announced since stays announced.
    pub fn learn_no_redactions(&self, room: RoomNid) {
        self.entry(room, |entry| entry.redactions.learn_none());
    }

    /// Announces that the state of a room is to name a user of another server. Call it before the commit.
    pub(crate) fn meets_others(&self, room: RoomNid) {
        self.entry(room, |entry| entry.others.announce());
    }

    /// Whether the state of a room has ever named a user of another server, as far as is known.
    pub(crate) fn has_met_others(&self, room: RoomNid) -> Option<bool> {
        self.entry(room, |entry| entry.others.known())
    }

    /// Remembers that a view showed no user of another server in a room. One who has been announced since stays announced.
    pub(crate) fn learn_met_no_others(&self, room: RoomNid) {
        self.entry(room, |entry| entry.others.learn_none());
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

    /// Says what the commit appends to the room's log, in that order: all of it.
    #[must_use]
    pub fn of_rows(mut self, rows: Vec<RoomLogEntry>) -> Self {
        self.rows = Some(rows);
        self
    }

    /// Says that the commit is one of receipts, and appends nothing to the log of events.
    #[must_use]
    pub fn of_receipts(mut self) -> Self {
        self.receipts = true;
        self.of_rows(Vec::new())
    }

    /// Confirms the commit. Call it before anybody is woken.
    pub fn committed(self, position: StreamPosition) {
        self.activity.learn(self.room, position);
        if self.lists {
            self.activity.learn_lists(self.room, position);
        }
        if self.receipts {
            self.activity.learn_receipts(self.room, position);
        }
        self.activity.keep(self.room, position, self.rows.as_deref());
        self.activity.news.notify_one();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.activity.entry(self.room, |entry| entry.writing.fetch_sub(1, Ordering::SeqCst));
        self.activity.newest.lock().ends(self.room);
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
    fn receipts_and_lists_are_known_by_themselves() {
        let activity = Arc::new(RoomActivity::default());
        let of = |since| {
            (activity.receipts_since(ROOM, StreamPosition(since)), activity.lists_since(ROOM, StreamPosition(since)))
        };
        assert_eq!(of(9), (Activity::Unknown, Activity::Unknown));
        activity.writing(ROOM).of_receipts().committed(StreamPosition(6));
        assert_eq!((of(5), of(6)), ((Activity::Changed, Activity::Unknown), (Activity::Quiet, Activity::Unknown)));
        activity.learn_receipts(ROOM, StreamPosition(4));
        assert_eq!(of(5).0, Activity::Changed, "an old reading does not go back");
        activity.writing(ROOM).of_lists(true).of_rows(vec![entry()]).committed(StreamPosition(8));
        assert_eq!(of(7), (Activity::Quiet, Activity::Changed));
    }

    fn entry() -> RoomLogEntry {
        RoomLogEntry::DeviceChange { user_id: "@a:x".to_owned() }
    }

    fn places(activity: &RoomActivity, since: u64, upto: u64) -> Option<Vec<u64>> {
        let rows = activity.recent(ROOM, StreamPosition(since), StreamPosition(upto))?;
        Some(rows.into_iter().map(|((position, _), _)| position.0).collect())
    }

    #[test]
    fn i10_the_end_of_a_log_is_in_memory_only_as_far_as_it_is_whole() {
        let activity = Arc::new(RoomActivity::default());
        assert_eq!(places(&activity, 0, 9), None);
        let (first, second) =
            (activity.writing(ROOM).of_rows(vec![entry()]), activity.writing(ROOM).of_rows(vec![entry()]));
        second.committed(StreamPosition(6));
        assert_eq!(places(&activity, 5, 9), None, "one that is visible may not have said what it wrote");
        first.committed(StreamPosition(5));
        assert_eq!((places(&activity, 5, 9), places(&activity, 4, 9)), (Some(vec![6]), None));
        drop(activity.writing(ROOM).of_rows(vec![entry()]));
        activity.writing(ROOM).of_receipts().committed(StreamPosition(7));
        activity.writing(ROOM).of_rows(vec![entry(), entry()]).committed(StreamPosition(8));
        assert_eq!((places(&activity, 5, 9), places(&activity, 5, 7)), (Some(vec![8, 8, 6]), Some(vec![6])));
        activity.writing(ROOM).committed(StreamPosition(9));
        assert_eq!((places(&activity, 8, 9), places(&activity, 9, 9)), (None, Some(vec![])), "not said what it wrote");
    }

    #[test]
    fn i12_the_rows_in_memory_are_bounded() {
        let activity = Arc::new(RoomActivity::default());
        let rooms = u32::try_from(ROWS_IN_MEMORY).expect("small");
        for room in 0..rooms + 9 {
            activity.writing(RoomNid(room)).of_rows(vec![entry()]).committed(StreamPosition(1 + u64::from(room)));
        }
        let kept = |room: u32| activity.recent(RoomNid(room), StreamPosition(room.into()), StreamPosition(u64::MAX));
        let count = (0..rooms + 9).filter(|room| kept(*room).is_some()).count();
        assert_eq!((count, kept(8).is_some(), kept(9).is_some()), (ROWS_IN_MEMORY, false, true));
    }

    #[test]
    fn whoever_follows_all_rooms_is_told_of_those_that_changed_and_those_being_written_to() {
        let activity = Arc::new(RoomActivity::default());
        let since = |since| activity.changed_since(StreamPosition(since));
        for room in 0..5 {
            activity.learn(RoomNid(room), StreamPosition(room.into()));
        }
        assert_eq!(since(2), [RoomNid(3), RoomNid(4)]);
        let writing = activity.writing(RoomNid(1));
        assert_eq!(since(3), [RoomNid(1), RoomNid(4)], "about to");
        writing.committed(StreamPosition(7));
        assert_eq!((since(3), since(7)), (vec![RoomNid(1), RoomNid(4)], vec![]));
        activity.learn(RoomNid(1), StreamPosition(6));
        assert_eq!(since(6), [RoomNid(1)], "an old reading does not go back");
    }
}
