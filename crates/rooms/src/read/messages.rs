//! Pages of a room's timeline (`GET /rooms/{roomId}/messages`).

use std::{collections::BTreeMap, sync::Arc};

use primitives::{Rank, Rix, StreamPosition};
use ruma::RoomId;
use serde::Serialize;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{Gaps, RoomLog, RoomLogEntry, Timeline},
};

use super::{Access, ReadRoomError, Reader, Reads, RoomView, Shower};
use crate::{
    filter::{DEFAULT_LIMIT, MAX_LIMIT, RoomEventFilter},
    remote::Gap,
    render::{ClientEvent, StoredEvent},
    tokens::{BadToken, PageToken, SyncToken, TimelinePoint},
};

/// How many events one request looks at. If so many were hidden from the reader, the page ends early with a token to go on from.
const LOOKED_AT: usize = 5_000;
/// Rows of the log that are searched for the highest rank at a place of the stream: as many events may have come out of order.
const LOG_ROWS: usize = 64;

/// In which direction a page goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageDirection {
    /// `b`: to older events.
    Backward,
    /// `f`: to newer events.
    Forward,
}

impl From<PageDirection> for Direction {
    fn from(direction: PageDirection) -> Self {
        match direction {
            PageDirection::Backward => Self::Backward,
            PageDirection::Forward => Self::Forward,
        }
    }
}

/// Which page is asked for.
#[derive(Clone, Debug)]
pub struct MessagesRequest {
    /// In which direction.
    pub direction: PageDirection,
    /// From where; from the end of the timeline that the direction starts at if not given.
    pub from: Option<PageToken>,
    /// Up to where.
    pub to: Option<PageToken>,
    /// At most how many events; 10 if not given, 1,000 at most.
    pub limit: Option<u64>,
    /// Which events.
    pub filter: RoomEventFilter,
}

/// A page.
#[derive(Clone, Debug, Serialize)]
pub struct Messages {
    /// The events in the direction of the request.
    pub chunk: Vec<ClientEvent>,
    /// Where the page starts.
    pub start: PageToken,
    /// Where the next page starts; absent at the end of the timeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<PageToken>,
    /// With lazy loading: the member events of the senders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<ClientEvent>,
    /// The newest place, of those that the page goes over, where events are missing.
    #[serde(skip)]
    pub(crate) gap: Option<Gap>,
}

/// A point of the timeline: (rank, rix) of the event after it.
pub(crate) type Point = (Rank, Rix);

/// The point just after an event.
pub(crate) fn after((rank, rix): Point) -> Point {
    (rank, Rix(rix.0.saturating_add(1)))
}

/// Before every event.
pub(crate) const BEGINNING: Point = (Rank(0), Rix(0));
/// After every event.
pub(crate) const END: Point = (Rank(u64::MAX), Rix(u32::MAX));

/// The events of a part of the timeline that a reader sees and wants.
#[derive(Debug)]
pub(crate) struct Page {
    /// In the direction of the scan.
    pub(crate) events: Vec<Arc<StoredEvent>>,
    /// Where to go on; `None` if the part is exhausted.
    pub(crate) next: Option<Point>,
}

/// Which part of the timeline is read, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageScan {
    /// In which direction.
    pub(crate) direction: PageDirection,
    /// From where.
    pub(crate) from: Point,
    /// Up to where.
    pub(crate) to: Point,
    /// At most how many events.
    pub(crate) limit: usize,
    /// Whether an event before which others are missing ends the page.
    pub(crate) stop_at_gaps: bool,
}

impl Reads {
    /// A page of a room's timeline. Hidden events don't end it: it goes on to the limit or to the true end.
    pub async fn messages(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: MessagesRequest,
    ) -> Result<Messages, ReadRoomError> {
        self.page_of(reader, room_id, request, None).await
    }

    /// The same for a page backward that ends before a gap, from where it can be continued.
    pub(crate) async fn messages_above(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: MessagesRequest,
        gap: Rank,
    ) -> Result<Messages, ReadRoomError> {
        self.page_of(reader, room_id, request, Some((gap, Rix(0)))).await
    }

    async fn page_of(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: MessagesRequest,
        floor: Option<Point>,
    ) -> Result<Messages, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let access = Access::of(&room.open_head().await?, &mut shower.eyes).await?;
        let backward = request.direction == PageDirection::Backward;
        let default = if backward { END } else { BEGINNING };
        let from = access.cut(self.point(&room, request.from, default).await?);
        let to = access.cut(self.point(&room, request.to, if backward { BEGINNING } else { END }).await?);
        let to = floor.map_or(to, |floor| floor.max(to));
        let limit =
            request.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT));

        let scan = PageScan { direction: request.direction, from, to, limit, stop_at_gaps: false };
        let page = page(&mut shower, scan, &request.filter).await?;
        let token = |point| page_token(&room, point);
        // Going forward more may come later: a page that holds something can always be continued.
        let last = page.events.last().map(|event| after((event.header.rank, event.rix)));
        let end = page.next.or(last.filter(|_| !backward)).or(floor);
        let gap = if backward { room.gap_between(page.next.unwrap_or(to), from).await? } else { None };
        Ok(Messages {
            start: request.from.unwrap_or_else(|| token(from)),
            end: end.map(token),
            state: lazy_members(&mut shower, &page.events, &request.filter).await?,
            chunk: shower.show_with_relations(&page.events).await?,
            gap,
        })
    }

    /// The point that a token means in a room.
    pub(super) async fn point(
        &self,
        room: &RoomView<'_>,
        token: Option<PageToken>,
        default: Point,
    ) -> Result<Point, ReadRoomError> {
        match token {
            None => Ok(default),
            Some(PageToken::Timeline(point)) if point.room == room.nid => Ok((point.rank, point.rix)),
            Some(PageToken::Timeline(_)) => Err(BadToken.into()),
            Some(PageToken::Stream(token)) => Ok(room.point_at(self.checked(room, token)?).await?),
        }
    }

    /// The position of a sync token, if it is of this database and not of the future.
    pub(super) fn checked(&self, room: &RoomView<'_>, token: SyncToken) -> Result<StreamPosition, BadToken> {
        let now = self.token_of(room.view);
        if token.epoch == now.epoch && token.position <= now.position { Ok(token.position) } else { Err(BadToken) }
    }
}

/// The token of a point.
pub(crate) fn page_token(room: &RoomView<'_>, (rank, rix): Point) -> PageToken {
    PageToken::Timeline(TimelinePoint { room: room.nid, rank, rix, position: room.view.position() })
}

impl RoomView<'_> {
    /// The newest gap between two points: one before an event above the lower point, up to the one after the higher point, whose event a page starts before.
    pub(super) async fn gap_between(&self, low: Point, high: Point) -> Result<Option<Gap>, ReadError> {
        if low >= high {
            return Ok(None);
        }
        // A page that ends before an event has not gone over what is missing before that.
        let first = if low.1 == Rix(0) { low.0 } else { low.0.next() };
        let above = Rank(high.0.0.saturating_add(1));
        let range = KeyRange::between(&(self.nid, first), &(self.nid, above));
        let page = self.view.scan::<Gaps>(&range, 1, Direction::Backward).await?;
        Ok(page.rows.first().map(|((_, rank), row)| Gap::of(*rank, &row.0)))
    }

    /// The point of the timeline that has on its left what had arrived by a position.
    pub(crate) async fn point_at(&self, position: StreamPosition) -> Result<Point, ReadError> {
        let range = KeyRange::until(&(self.nid,), &(self.nid, position.next()));
        let page = self.view.scan::<RoomLog>(&range, LOG_ROWS, Direction::Backward).await?;
        let ranks = page.rows.iter().filter_map(|(_, entry)| match entry {
            RoomLogEntry::Event { rix, rank, .. } => Some((*rank, *rix)),
            _ => None,
        });
        Ok(ranks.max().map_or(BEGINNING, after))
    }
}

/// Reads a part of the timeline until there are as many events as asked for that the reader sees and wants.
pub(crate) async fn page(shower: &mut Shower<'_>, scan: PageScan, filter: &RoomEventFilter) -> Result<Page, ReadError> {
    let room = shower.room;
    let backward = scan.direction == PageDirection::Backward;
    let (low, high) = if backward { (scan.to, scan.from) } else { (scan.from, scan.to) };
    let mut page = Page { events: Vec::new(), next: None };
    if scan.limit == 0 || low >= high || !filter.selects_room(&room.room_id) {
        return Ok(page);
    }
    let key = |(rank, rix): Point| (room.nid, rank, rix);
    let mut rest = Some(KeyRange::between(&key(low), &key(high)));
    let mut looked_at = 0;
    while let Some(range) = rest {
        let at_once = (scan.limit - page.events.len()).clamp(20, 500);
        let rows = room.view.scan::<Timeline>(&range, at_once, scan.direction.into()).await?;
        rest = rows.rest;
        // Read together; what was read is in the cache when it is asked for.
        room.events(&rows.rows.iter().map(|((_, _, rix), ())| *rix).collect::<Vec<_>>()).await?;
        let mut rows = rows.rows.into_iter().peekable();
        while let Some(((_, rank, rix), ())) = rows.next() {
            looked_at += 1;
            page.events.extend(shower.wanted(rix, filter).await?);
            let full = page.events.len() == scan.limit || looked_at == LOOKED_AT;
            if full || (scan.stop_at_gaps && room.has_gap(rank).await?) {
                let more = rows.peek().is_some() || rest.is_some();
                page.next = more.then_some(if backward { (rank, rix) } else { after((rank, rix)) });
                return Ok(page);
            }
        }
    }
    Ok(page)
}

/// With lazy loading, the member events of the senders, each as of the sender's newest event among them.
pub(super) async fn lazy_members(
    shower: &mut Shower<'_>,
    events: &[Arc<StoredEvent>],
    filter: &RoomEventFilter,
) -> Result<Vec<ClientEvent>, ReadError> {
    if !filter.lazy_load_members {
        return Ok(Vec::new());
    }
    let mut newest: BTreeMap<&str, &StoredEvent> = BTreeMap::new();
    for event in events {
        let of_sender = newest.entry(&event.header.sender).or_insert(event);
        if event.header.rank > of_sender.header.rank {
            *of_sender = event;
        }
    }
    let mut members = Vec::with_capacity(newest.len());
    for (sender, event) in newest {
        members.extend(shower.room.state_at(event.header.root_after, "m.room.member", sender).await?);
    }
    shower.show_all(members).await
}
