//! The event closest to a time (`GET /rooms/{roomId}/timestamp_to_event`; specification, "Jump to date").
//!
//! An event's time is what its sender claims, so times need not rise along the timeline. A search by halves finds a place where they pass the
//! wanted time; around it, some hundred events are compared. A lone event with a time far from its neighbours' is found only
//! near its place: no index is kept for that.

use primitives::{Rank, Rix};
use ruma::{OwnedEventId, RoomId};
use serde::Serialize;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventHeaders, Timeline},
};

use super::{
    Access, PageDirection, ReadRoomError, Reader, Reads, RoomView, Shower,
    messages::{BEGINNING, END, Point},
};
use crate::visibility::Sight;

/// Events compared on each side of the place where the times pass the wanted one.
const AROUND: usize = 200;
/// Events looked at beyond that as long as none was found: they may be hidden from the reader.
const LOOKED_AT: usize = 5_000;
/// Events that are read at once.
const PAGE: usize = 100;

/// An event and when it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventAtTime {
    /// Its id.
    pub event_id: OwnedEventId,
    /// When it was sent, by its sender's clock: milliseconds since the Unix epoch.
    pub origin_server_ts: u64,
}

/// What is searched.
#[derive(Clone, Copy, Debug)]
struct Search {
    ts: u64,
    direction: PageDirection,
}

impl Search {
    /// Whether an event of this time lies in the direction.
    fn may_be(self, ts: u64) -> bool {
        match self.direction {
            PageDirection::Backward => ts <= self.ts,
            PageDirection::Forward => ts >= self.ts,
        }
    }

    /// Whether one place is closer than another: by time, then, looking back, the later, and looking forward, the earlier.
    fn closer(self, new: (u64, Point), old: (u64, Point)) -> bool {
        match self.direction {
            PageDirection::Backward => new > old,
            PageDirection::Forward => new < old,
        }
    }
}

impl Reads {
    /// The event that is closest to a time in a direction, of those that the reader sees.
    pub async fn event_at_time(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        ts: u64,
        direction: PageDirection,
    ) -> Result<EventAtTime, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let access = Access::of(&room.open_head().await?, &mut shower.eyes).await?;
        find(&room, &mut shower.eyes, access.cut(END), ts, direction).await
    }
}

/// The event before `end` that is closest to a time in a direction, of those that somebody sees.
pub(super) async fn find(
    room: &RoomView<'_>,
    sight: &mut impl Sight,
    end: Point,
    ts: u64,
    direction: PageDirection,
) -> Result<EventAtTime, ReadRoomError> {
    let search = Search { ts, direction };
    let turn = turning_point(room, end, search).await?;
    let mut best = None;
    closest(room, sight, ((BEGINNING, turn), Direction::Backward), search, &mut best).await?;
    closest(room, sight, ((turn, end), Direction::Forward), search, &mut best).await?;
    let (_, (_, rix)) = best.ok_or(ReadRoomError::NotFound)?;
    let event = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
    let event_id = event.header.event_id.as_str().try_into().map_err(|_| ReadRoomError::NotFound)?;
    Ok(EventAtTime { event_id, origin_server_ts: event.header.origin_server_ts })
}

/// A place before which the times are those that looking back finds, and after which those that looking forward finds.
async fn turning_point(room: &RoomView<'_>, end: Point, search: Search) -> Result<Point, ReadError> {
    let is_before = |ts: u64| match search.direction {
        PageDirection::Backward => ts <= search.ts,
        PageDirection::Forward => ts < search.ts,
    };
    let (first, last) = (outermost(room, end, Direction::Forward), outermost(room, end, Direction::Backward));
    let (Some(first), Some(last)) = (first.await?, last.await?) else { return Ok(BEGINNING) };
    let (mut low, mut high) = (number(first), number(last) + 1);
    // Ranks lie far apart where events are missing, so it is numbers that are halved: at most 96 times.
    while low < high {
        let middle = low + (high - low) / 2;
        let (from, to) = (point(middle), point(high));
        let range = KeyRange::between(&(room.nid, from.0, from.1), &(room.nid, to.0, to.1));
        let page = room.view.scan_keys::<Timeline>(&range, 1, Direction::Forward).await?;
        let found = page.keys.first().copied();
        let header = match found {
            Some((_, _, rix)) => room.view.get::<EventHeaders>(&(room.nid, rix)).await?,
            None => None,
        };
        match (found, header) {
            (Some((_, rank, rix)), Some(header)) if is_before(header.value.origin_server_ts) => {
                low = number((rank, rix)) + 1;
            }
            _ => high = middle,
        }
    }
    Ok(point(low))
}

/// A point as a number that sorts as it does.
fn number((rank, rix): Point) -> u128 {
    u128::from(rank.0) << 32 | u128::from(rix.0)
}

fn point(number: u128) -> Point {
    let rix = u32::try_from(number & u128::from(u32::MAX)).unwrap_or(u32::MAX);
    (Rank(u64::try_from(number >> 32).unwrap_or(u64::MAX)), Rix(rix))
}

/// The first or the last event before a point.
async fn outermost(room: &RoomView<'_>, end: Point, side: Direction) -> Result<Option<Point>, ReadError> {
    let range = KeyRange::until(&(room.nid,), &(room.nid, end.0, end.1));
    let page = room.view.scan_keys::<Timeline>(&range, 1, side).await?;
    Ok(page.keys.first().map(|(_, rank, rix)| (*rank, *rix)))
}

/// Looks through a part of the timeline for a closer event than the one found so far.
async fn closest(
    room: &RoomView<'_>,
    sight: &mut impl Sight,
    ((low, high), side): ((Point, Point), Direction),
    search: Search,
    best: &mut Option<(u64, Point)>,
) -> Result<(), ReadError> {
    let towards = side == search.direction.into();
    let mut looked_at = 0;
    let mut rest = Some(KeyRange::between(&(room.nid, low.0, low.1), &(room.nid, high.0, high.1)));
    while let Some(range) = rest {
        // Where the direction leads, there is something to be found, if only far away.
        if looked_at >= AROUND && (best.is_some() || !towards || looked_at >= LOOKED_AT) {
            return Ok(());
        }
        let page = room.view.scan_keys::<Timeline>(&range, PAGE, side).await?;
        looked_at += page.keys.len();
        let keys: Vec<_> = page.keys.iter().map(|(room, _, rix)| (*room, *rix)).collect();
        let headers = room.view.multi_get::<EventHeaders>(&keys).await?;
        for ((_, rank, rix), header) in page.keys.into_iter().zip(headers) {
            let Some(header) = header.map(|header| header.value) else { continue };
            let found = (header.origin_server_ts, (rank, rix));
            if search.may_be(found.0)
                && best.is_none_or(|best| search.closer(found, best))
                && sight.sees(&header).await?
            {
                *best = Some(found);
            }
        }
        rest = page.rest;
    }
    Ok(())
}
