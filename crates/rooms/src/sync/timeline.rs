//! The part of a timeline that one sync shows.

use std::{collections::BTreeSet, sync::Arc};

use primitives::{Rank, Rix, RoomNid, Slot, StreamPosition};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{Gaps, RoomLog, RoomLogEntry},
};

use crate::{
    filter::RoomEventFilter,
    read::{BEGINNING, Page, PageDirection, PageScan, Point, RoomView, Shower, after},
    render::StoredEvent,
};

/// How many rows of a room's log one sync looks at. Beyond that the timeline is cut.
const LOOKED_AT: usize = 5_000;
/// Rows of the log that are read at once; as many may have come out of topological order.
const PAGE: usize = 64;

/// What of a room's log a sync looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// After this position.
    pub(super) since: StreamPosition,
    /// Up to this position,
    pub(super) upto: StreamPosition,
    /// and of its rows up to this event.
    pub(super) last: Option<Rix>,
}

/// The part of a timeline that one sync shows, and what happened meanwhile.
#[derive(Debug)]
pub(super) struct Window {
    /// The events, oldest first.
    pub(super) events: Vec<Arc<StoredEvent>>,
    /// Whether something before them is left out.
    pub(super) limited: bool,
    /// From here older events are to be had.
    pub(super) prev: Point,
    /// The slots of current state that changed; `None`: more than were counted, compare the roots.
    pub(super) changed: Option<BTreeSet<Slot>>,
    /// Whether anything happened at all.
    pub(super) moved: bool,
}

/// The newest events of the room, in topological order: for a client that knows nothing of the room. Ends at a gap.
pub(super) async fn newest(
    shower: &mut Shower<'_>,
    end: Point,
    limit: usize,
    filter: &RoomEventFilter,
) -> Result<Window, ReadError> {
    let scan = PageScan { direction: PageDirection::Backward, from: end, to: BEGINNING, limit, stop_at_gaps: true };
    let Page { mut events, next } = crate::read::page(shower, scan, filter).await?;
    events.reverse();
    let first = events.first().map_or(end, |event| (event.header.rank, event.rix));
    let limited = next.is_some() || limit == 0;
    Ok(Window { events, limited, prev: next.unwrap_or(first), changed: None, moved: true })
}

/// What arrived in a room, in that order: for a client that knows what was before. If it is more than the client wants, the newest of it.
pub(super) async fn arrived(
    shower: &mut Shower<'_>,
    span: Span,
    limit: usize,
    filter: &RoomEventFilter,
) -> Result<Window, ReadError> {
    let room = shower.room;
    let mut window =
        Window { events: Vec::new(), limited: false, prev: BEGINNING, changed: Some(BTreeSet::new()), moved: false };
    let wants_room = filter.selects_room(&room.room_id);
    let mut looked_at = 0;
    let mut skipping = span.last.is_some();
    let mut next = Some(room.log_between(span.since, span.upto, PAGE).await?);
    'log: while let Some(page) = next {
        for (at, (key, entry)) in page.rows.iter().enumerate() {
            let older = &page.rows[at + 1..];
            skipping &= key.1 == span.upto && !is_event(entry, span.last);
            if skipping {
                continue;
            }
            window.note(entry);
            let RoomLogEntry::Event { rix, rank, .. } = entry else { continue };
            looked_at += 1;
            let event = if wants_room { shower.wanted(*rix, filter).await? } else { None };
            if looked_at > LOOKED_AT || (event.is_some() && window.events.len() == limit) {
                window.cut_before((*rank, *rix), older.iter().map(|(_, entry)| entry));
                break 'log;
            }
            window.events.extend(event);
            if room
                .has_gap_in_log(*key, *rank, older.iter().map(|(_, entry)| entry).find(|entry| tells_order(entry)))
                .await?
            {
                (window.limited, window.changed) = (true, None);
                window.prev = (*rank, *rix);
                break 'log;
            }
        }
        next = match page.rest {
            Some(range) => Some(room.view.scan::<RoomLog>(&range, PAGE, Direction::Backward).await?),
            None => None,
        };
    }
    window.events.reverse();
    if !window.limited {
        let oldest = window.events.iter().map(|event| (event.header.rank, event.rix)).min();
        window.prev = match oldest {
            Some(point) => point,
            None => room.point_at(span.upto).await?,
        };
    }
    Ok(window)
}

/// Whether a row of the log says where in the history it is: news of devices don't.
fn tells_order(entry: &RoomLogEntry) -> bool {
    !matches!(entry, RoomLogEntry::DeviceChange { .. })
}

fn is_event(entry: &RoomLogEntry, wanted: Option<Rix>) -> bool {
    matches!(entry, RoomLogEntry::Event { rix, .. } if Some(*rix) == wanted)
}

impl Window {
    fn note(&mut self, entry: &RoomLogEntry) {
        self.moved |= !matches!(entry, RoomLogEntry::DeviceChange { .. });
        match (entry, &mut self.changed) {
            (RoomLogEntry::Event { changed: Some(slots), .. }, Some(changed)) => changed.extend(slots),
            (
                RoomLogEntry::Event { changed: None, .. } | RoomLogEntry::Reset { .. } | RoomLogEntry::Whole { .. },
                _,
            ) => self.changed = None,
            _ => {}
        }
    }

    /// Ends the window before an event that is left out. Older events are to be had from after the highest of what is left out, so that
    /// none is missed; where events came out of order, some are seen twice.
    fn cut_before<'a>(&mut self, event: Point, older: impl Iterator<Item = &'a RoomLogEntry>) {
        let older = older.filter_map(|entry| match entry {
            RoomLogEntry::Event { rix, rank, .. } => Some((*rank, *rix)),
            _ => None,
        });
        self.limited = true;
        self.changed = None;
        self.prev = after(older.fold(event, Point::max));
    }
}

impl RoomView<'_> {
    /// Whether events are, or were when it arrived, missing before an event: that of a row of the log. A gap that has been filled since
    /// leaves its distance in the ranks, and what filled it never was in the log.
    async fn has_gap_in_log(&self, row: LogKey, rank: Rank, older: Option<&RoomLogEntry>) -> Result<bool, ReadError> {
        if !may_follow_gap(rank) {
            return Ok(false);
        }
        let far = |entry: &RoomLogEntry| match entry {
            RoomLogEntry::Event { rank: older, .. } => rank.0.saturating_sub(older.0) >= Rank::GAP / 2,
            _ => false,
        };
        let jumps = if let Some(older) = older {
            far(older)
        } else {
            let before = KeyRange::until(&(self.nid,), &row);
            let page = self.view.scan::<RoomLog>(&before, PAGE, Direction::Backward).await?;
            page.rows.iter().find(|(_, entry)| tells_order(entry)).is_some_and(|(_, older)| far(older))
        };
        Ok(jumps || self.has_gap(rank).await?)
    }

    /// Whether events are missing before the event of this rank.
    pub(crate) async fn has_gap(&self, rank: Rank) -> Result<bool, ReadError> {
        Ok(may_follow_gap(rank) && self.view.get::<Gaps>(&(self.nid, rank)).await?.is_some())
    }
}

/// The key of a row of a room's log.
type LogKey = (RoomNid, StreamPosition, u16);

/// The ranks of a room without a gap stay below this: most rooms never ask the table of gaps.
fn may_follow_gap(rank: Rank) -> bool {
    rank.0 >= Rank::FIRST.0 + Rank::GAP
}
