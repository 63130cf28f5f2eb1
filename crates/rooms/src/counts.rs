//! Unread counts: how many events of a room a user is to be told of (client-server API, "Receiving notifications").
//!
//! Nothing is counted when an event is sent: a room with many members costs its senders nothing. A sync counts what came since it was counted
//! last, walking back over the room's log, and keeps the outcome in memory; now and then it is stored, so that a restart counts little anew.
//!
//! An event counts if the user's rules say so and they have neither read up to it nor left since. What they have read is said by their receipts
//! and by what they send themselves: a message reads all before it in its thread. The counts depend on nothing but what a view shows, so that
//! counting on gives what counting from the start would.

mod judge;
mod list;
mod read_to;
mod since;
mod tally;
mod thread;

use std::{collections::HashSet, sync::Arc};

use primitives::{NodeId, RoomNid, StreamPosition, UserNid};
use quick_cache::sync::Cache;
use storage::{
    Batch, Direction, Positioned, ReadError,
    schema::{
        push::{CountRow, Counts as CountsTable},
        rooms::{Membership, MembershipRow, Memberships, RoomLog, RoomLogEntry},
    },
};

use crate::{
    activity::Activity,
    filter::EventFormat,
    read::{Reader, Reads, RoomView, Wishes},
    receipts::Place,
    render::StoredEvent,
    visibility::Eyes,
};

use judge::{Judge, PushEvents};
pub use list::{DEFAULT_NOTIFICATIONS, MAX_NOTIFICATIONS, Notification, NotificationList, NotificationsRequest};
use read_to::ReadTo;
use tally::Tally;
pub use tally::Unread;

/// Rows of a room's log that one count looks at. Of a user who is further behind, only the newest events are counted.
const MAX_ROWS: usize = 10_000;
/// Rows of a log that are read at once.
const PAGE: usize = 64;
/// Rooms of users whose counts are kept in memory.
const IN_MEMORY: usize = 100_000;
/// Rows that are looked at before the outcome is stored.
const STORED_AFTER: usize = 64;

/// A user's unread counts in a room, as one view shows them.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    /// The position of the view.
    upto: StreamPosition,
    /// When the user's push rules, or whom they ignore, changed last.
    rules: StreamPosition,
    /// The position of the user's membership.
    member: StreamPosition,
    /// What was before this doesn't count: the user joined here.
    since: Place,
    read_to: Arc<ReadTo>,
    tally: Tally,
    /// At this position at the latest they became what they are.
    changed: StreamPosition,
    /// Rows looked at since they were stored.
    not_stored: usize,
}

impl Counted {
    /// All events, whatever their thread.
    pub(crate) fn total(&self) -> Unread {
        self.tally.threads.values().fold(self.tally.main, |sum, unread| sum + *unread)
    }

    /// The events that are in no thread.
    pub(crate) fn main(&self) -> Unread {
        self.tally.main
    }

    /// Those of each thread that has any, by its root.
    pub(crate) fn threads(&self) -> impl Iterator<Item = (&str, Unread)> {
        self.tally.threads.iter().map(|(root, unread)| (root.as_str(), *unread))
    }

    /// Whether they may have changed after a position.
    pub(crate) fn changed_after(&self, position: StreamPosition) -> bool {
        self.changed > position
    }
}

/// What is remembered of counts. All of it can be lost.
pub(crate) struct CountMemory {
    counted: Cache<(UserNid, RoomNid), Arc<Counted>>,
    events: PushEvents,
}

impl Default for CountMemory {
    fn default() -> Self {
        Self { counted: Cache::new(IN_MEMORY), events: PushEvents::default() }
    }
}

/// Who counts what by which rules.
#[derive(Clone, Copy)]
struct Counting<'a> {
    room: &'a RoomView<'a>,
    reader: &'a Reader,
    wishes: &'a Wishes,
}

impl Counting<'_> {
    /// The user's membership, if they are in the room.
    async fn member(&self) -> Result<Option<Positioned<MembershipRow>>, ReadError> {
        let row = self.room.view.get::<Memberships>(&(self.reader.user_nid, self.room.nid)).await?;
        Ok(row.filter(|row| row.value.membership == Membership::Join))
    }

    /// Whether what was counted earlier can be counted on from: this view is not older, and the same rules hold.
    fn fits(&self, upto: StreamPosition, rules: StreamPosition) -> bool {
        upto <= self.room.view.position() && rules == self.wishes.changed()
    }
}

impl Reads {
    /// The unread counts of a user in a room; `None` if they are not in it. `wishes` and `eyes` are the user's, in the same view.
    pub(crate) async fn unread(
        &self,
        room: &RoomView<'_>,
        reader: &Reader,
        wishes: &Wishes,
        eyes: &mut Eyes<'_>,
    ) -> Result<Option<Arc<Counted>>, ReadError> {
        let (key, counting) = ((reader.user_nid, room.nid), Counting { room, reader, wishes });
        let known = self.0.counts.counted.get(&key);
        let upto = known.as_ref().map(|known| known.upto);
        let mut counted = match self.known(counting, known).await? {
            Some(known) => self.count_on(counting, eyes, &known).await?,
            None => None,
        };
        if counted.is_none() {
            counted = self.count_anew(counting, eyes).await?;
        }
        let Some(mut counted) = counted else { return Ok(None) };
        if counted.not_stored >= STORED_AFTER && self.store(&counted, key, room).await? {
            counted.not_stored = 0;
        }
        let counted = Arc::new(counted);
        // An older view never puts back what a newer one has brought.
        if upto.is_none_or(|upto| upto <= counted.upto) {
            self.0.counts.counted.insert(key, Arc::clone(&counted));
        }
        Ok(Some(counted))
    }

    /// What was counted earlier, in memory or stored, if it can be counted on from there.
    async fn known(&self, counting: Counting<'_>, known: Option<Arc<Counted>>) -> Result<Option<Counted>, ReadError> {
        let Counting { room, reader, .. } = counting;
        let known = known.filter(|known| counting.fits(known.upto, known.rules));
        if let Some(known) = &known
            && self.0.activity.lists_since(room.nid, known.upto) == Activity::Quiet
        {
            // Nobody has come or gone, so the user is in the room as they were.
            return Ok(Some((**known).clone()));
        }
        let Some(member) = counting.member().await? else { return Ok(None) };
        let mut known = match known {
            Some(known) => (*known).clone(),
            None => match room.view.get::<CountsTable>(&(reader.user_nid, room.nid)).await? {
                Some(row) if counting.fits(row.upto, row.rules) => {
                    let read_to = Arc::new(ReadTo::load(room, reader).await?);
                    Counted::from_row(row, read_to)
                }
                _ => return Ok(None),
            },
        };
        if known.member != member.position {
            if known.since != since::joined(room, reader, member.value.rix).await? {
                return Ok(None);
            }
            known.member = member.position;
        }
        Ok(Some(known))
    }

    /// Counts from where the user joined; `None` if they are not in the room.
    async fn count_anew(&self, counting: Counting<'_>, eyes: &mut Eyes<'_>) -> Result<Option<Counted>, ReadError> {
        let Counting { room, reader, wishes } = counting;
        let Some(member) = counting.member().await? else { return Ok(None) };
        let since = since::joined(room, reader, member.value.rix).await?;
        let nothing = Counted {
            upto: StreamPosition::ZERO,
            rules: wishes.changed(),
            member: member.position,
            since,
            read_to: Arc::new(ReadTo::load(room, reader).await?),
            tally: Tally::default(),
            changed: StreamPosition::ZERO,
            not_stored: 0,
        };
        let counted = self.walk(counting, eyes, &nothing, &HashSet::new(), StreamPosition::ZERO).await?;
        Ok(Some(counted.expect("nothing that was counted has been redacted")))
    }

    /// Counts what has come since; `None` if that doesn't do.
    async fn count_on(
        &self,
        counting: Counting<'_>,
        eyes: &mut Eyes<'_>,
        known: &Counted,
    ) -> Result<Option<Counted>, ReadError> {
        let Counting { room, reader, .. } = counting;
        if known.upto == room.view.position() {
            return Ok(Some(known.clone()));
        }
        let mut base = known.clone();
        let moved = read_to::moved(room, reader, known.upto).await?;
        let (mut again, mut from) = (HashSet::new(), room.view.position());
        if !moved.is_empty() {
            let read_to = Arc::make_mut(&mut base.read_to);
            for (thread, place) in &moved {
                read_to.advance(thread, *place);
            }
            // What was counted of a thread whose receipt has moved is counted again from there.
            for thread in base.tally.counted_threads() {
                if moved.iter().any(|(moved, _)| moved.concerns(thread.as_deref())) {
                    base.tally.clear(thread.as_deref());
                    from = from.min(base.read_to.of(thread.as_deref()).map_or(StreamPosition::ZERO, position_of));
                    again.insert(thread);
                }
            }
        }
        self.walk(counting, eyes, &base, &again, from).await
    }

    /// Walks back over the log from its end and counts what is new since `base`, and of the threads in `again` what came since `from` too.
    /// `None` if something that is counted in `base` has been redacted.
    async fn walk(
        &self,
        counting: Counting<'_>,
        eyes: &mut Eyes<'_>,
        base: &Counted,
        again: &HashSet<Option<String>>,
        from: StreamPosition,
    ) -> Result<Option<Counted>, ReadError> {
        let Counting { room, reader, wishes } = counting;
        let mut walk = Walk { base, again, tally: base.tally.clone(), new: Tally::default(), closed: HashSet::new() };
        let mut judge = Judge::new(room, reader, wishes, &self.0.counts.events, eyes.slot());
        let start = if again.is_empty() { base.upto.next() } else { from.min(base.upto.next()) };
        let start = start.max(position_of(base.since)).max(base.read_to.everything().map_or(start, position_of));
        let since = StreamPosition(start.0.saturating_sub(1));
        let mut next = Some(room.log_between(since, room.view.position(), PAGE).await?);
        let mut looked_at = 0;
        'log: while let Some(page) = next {
            for ((_, position, _), entry) in page.rows {
                let RoomLogEntry::Event { rix, root, changed, .. } = entry else { continue };
                looked_at += 1;
                if looked_at > MAX_ROWS {
                    break 'log;
                }
                let place = Place::Arrived(position, rix);
                if place <= base.since || judge.passes_over(rix, changed.as_deref()).await? {
                    continue;
                }
                let Some(event) = room.event(rix).await? else { continue };
                if walk.takes_back(room, &event, position).await? {
                    return Ok(None);
                }
                walk.take(&mut judge, eyes, Row { place, position, event, root }).await?;
            }
            next = match page.rest {
                Some(range) => Some(room.view.scan::<RoomLog>(&range, PAGE, Direction::Backward).await?),
                None => None,
            };
        }
        let mut tally = walk.tally;
        tally.add_all(&walk.new);
        let upto = room.view.position();
        let changed = if tally == base.tally && again.is_empty() { base.changed } else { upto };
        let not_stored = base.not_stored + looked_at;
        Ok(Some(Counted { upto, tally, changed, not_stored, ..base.clone() }))
    }

    /// Stores counts; whether that was possible. Whoever is faster wins: what is stored is right either way.
    async fn store(&self, counted: &Counted, key: (UserNid, RoomNid), room: &RoomView<'_>) -> Result<bool, ReadError> {
        let stored = room.view.get::<CountsTable>(&key).await?;
        let mut batch = Batch::new();
        batch.assert_unchanged::<CountsTable>(&key, stored.as_ref()).put::<CountsTable>(&key, &counted.to_row());
        Ok(self.0.storage.commit(batch).await.is_ok())
    }
}

/// An event in the log.
struct Row {
    place: Place,
    position: StreamPosition,
    event: Arc<StoredEvent>,
    root: NodeId,
}

/// A walk back over a room's log.
struct Walk<'a> {
    base: &'a Counted,
    /// Threads that are counted beyond what is new.
    again: &'a HashSet<Option<String>>,
    /// What is left of what was counted before.
    tally: Tally,
    /// What is counted on the way.
    new: Tally,
    /// Threads in which the user has sent something: all before that is read.
    closed: HashSet<Option<String>>,
}

impl Walk<'_> {
    async fn take(&mut self, judge: &mut Judge<'_>, eyes: &mut Eyes<'_>, row: Row) -> Result<(), ReadError> {
        let is_new = row.position > self.base.upto;
        if judge.is_own(&row.event) {
            if judge.reads(&row.event).await? {
                let thread = thread::root_of(judge.room, &row.event).await?;
                if is_new {
                    self.tally.clear(thread.as_deref());
                }
                self.closed.insert(thread);
            }
            return Ok(());
        }
        let mut thread = None;
        if !is_new {
            // Of what was counted before, only some threads matter: that is quicker to see than whether the rules match.
            let root = thread::root_of(judge.room, &row.event).await?;
            if !self.again.contains(&root) {
                return Ok(());
            }
            thread = Some(root);
        }
        let Some(outcome) = judge.outcome(eyes, &row.event, row.root).await? else { return Ok(()) };
        let highlight = outcome.highlight;
        let thread = match thread {
            Some(thread) => thread,
            None => thread::root_of(judge.room, &row.event).await?,
        };
        if !self.closed.contains(&thread) && !self.base.read_to.has_read(thread.as_deref(), row.place) {
            self.new.add(thread, highlight);
        }
        Ok(())
    }

    /// Whether an event is a redaction of one that may be among those counted before.
    async fn takes_back(
        &self,
        room: &RoomView<'_>,
        event: &StoredEvent,
        position: StreamPosition,
    ) -> Result<bool, ReadError> {
        if event.header.event_type != "m.room.redaction" || position <= self.base.upto {
            return Ok(false);
        }
        let target = event.fields(EventFormat::Client).find(|(name, _)| *name == "redacts");
        let target = target.and_then(|(_, id)| serde_json::from_str::<String>(id.get()).ok());
        let Some(target) = target else { return Ok(false) };
        let place = Place::find(room, &target).await?;
        let counted = |place| matches!(place, Place::Arrived(at, _) if at <= self.base.upto) && place > self.base.since;
        Ok(!self.tally.is_empty() && place.is_some_and(counted))
    }
}

fn position_of(place: Place) -> StreamPosition {
    match place {
        Place::Arrived(position, _) => position,
        Place::Backfilled(..) => StreamPosition::ZERO,
    }
}

impl Counted {
    fn from_row(row: CountRow, read_to: Arc<ReadTo>) -> Self {
        let since = match row.since {
            Some((position, rix)) => Place::Arrived(position, rix),
            None => since::ALWAYS,
        };
        let CountRow { upto, rules, member, main, threads, .. } = row;
        let unread = |(notify, highlight)| Unread { notify, highlight };
        let threads = threads.into_iter().map(|(root, counts)| (root, unread(counts))).collect();
        let tally = Tally { main: unread(main), threads };
        Self { upto, rules, member, since, read_to, tally, changed: upto, not_stored: 0 }
    }

    fn to_row(&self) -> CountRow {
        let counts = |unread: &Unread| (unread.notify, unread.highlight);
        let since = match self.since {
            Place::Arrived(position, rix) => Some((position, rix)),
            Place::Backfilled(..) => None,
        };
        CountRow {
            upto: self.upto,
            rules: self.rules,
            member: self.member,
            since,
            main: counts(&self.tally.main),
            threads: self.tally.threads.iter().map(|(root, unread)| (root.clone(), counts(unread))).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
