//! The events that relate to an event (`GET /rooms/{roomId}/relations/{eventId}`; specification, "Relationships API").

use std::collections::{BTreeMap, BTreeSet};

use primitives::Rix;
use ruma::{OwnedEventId, RoomId};
use serde::Serialize;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{self as schema, RelationKind, RelationRow},
};

use super::{
    Access, PageDirection, ReadRoomError, Reader, Reads, RoomView, Shower,
    bundles::place_of,
    messages::{BEGINNING, END, Point, after, page_token},
};
use crate::{
    filter::{DEFAULT_LIMIT, MAX_LIMIT},
    render::ClientEvent,
    tokens::PageToken,
};

/// How many levels of relations a recursive request goes down.
const DEPTH: u64 = 3;
/// How many relations one request looks at. Of more, a page ends early with a token to go on from; a recursive request misses some.
const LOOKED_AT: usize = 10_000;
/// Relations that are read at once.
const PAGE: usize = 200;

/// Which relations are asked for.
#[derive(Clone, Debug)]
pub struct RelationsRequest {
    /// To which event.
    pub event_id: OwnedEventId,
    /// Only those of this `rel_type`.
    pub rel_type: Option<String>,
    /// Only those of this event type.
    pub event_type: Option<String>,
    /// In which direction.
    pub direction: PageDirection,
    /// From where; from the end of the timeline that the direction starts at if not given.
    pub from: Option<PageToken>,
    /// Up to where.
    pub to: Option<PageToken>,
    /// At most how many events; 10 if not given, 1,000 at most.
    pub limit: Option<u64>,
    /// Also what relates to those, and so on.
    pub recurse: bool,
}

/// A page of relations.
#[derive(Clone, Debug, Serialize)]
pub struct Relations {
    /// The events in the direction of the request.
    pub chunk: Vec<ClientEvent>,
    /// Where the next page starts; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<PageToken>,
    /// Where this page started; absent on the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_batch: Option<PageToken>,
    /// How many levels were gone down, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recursion_depth: Option<u64>,
}

/// A part of the relations, in one direction.
#[derive(Clone, Copy, Debug)]
struct Part {
    direction: PageDirection,
    low: Point,
    high: Point,
}

impl Reads {
    /// A page of the events that relate to an event, in topological order. Not found if the reader may not see the event.
    pub async fn relations(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: RelationsRequest,
    ) -> Result<Relations, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        let head = room.head().await?.ok_or(ReadRoomError::NotFound)?;
        let rix = room.find_event(&request.event_id).await?.ok_or(ReadRoomError::NotFound)?;
        let parent = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if !shower.eyes.sees(&parent.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        let access = Access::of(&head, &mut shower.eyes).await;
        let end = access.map_or(END, |access| access.cut(END));
        let backward = request.direction == PageDirection::Backward;
        let from = self.point(&room, request.from, if backward { END } else { BEGINNING }).await?.min(end);
        let to = self.point(&room, request.to, if backward { BEGINNING } else { END }).await?.min(end);
        let (low, high) = if backward { (to, from) } else { (from, to) };
        let part = Part { direction: request.direction, low, high };
        let limit =
            request.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT));

        let target = room.target_hash(&parent);
        let (events, next) = if request.recurse {
            let found = descendants(&room, target, &request).await?;
            let places = found.range(part.low..part.high.max(part.low)).copied();
            let places: Vec<_> = if backward { places.rev().collect() } else { places.collect() };
            let taken = take_visible(&mut shower, &places, limit, part.direction).await?;
            (taken.0, taken.1)
        } else {
            direct(&mut shower, target, &request, part, limit).await?
        };
        Ok(Relations {
            chunk: shower.show_with_relations(&events).await?,
            next_batch: next.map(|point| page_token(&room, point)),
            prev_batch: request.from,
            recursion_depth: request.recurse.then_some(DEPTH),
        })
    }
}

type Taken = (Vec<std::sync::Arc<crate::render::StoredEvent>>, Option<Point>);

/// The first of some events that the reader sees, up to a number; and where to go on if there are more.
async fn take_visible(
    shower: &mut Shower<'_>,
    places: &[Point],
    limit: usize,
    direction: PageDirection,
) -> Result<Taken, ReadError> {
    let mut events = Vec::new();
    for (at, (rank, rix)) in places.iter().enumerate() {
        if events.len() >= limit {
            let next = match direction {
                PageDirection::Backward => at.checked_sub(1).map_or(END, |last| places[last]),
                PageDirection::Forward => (*rank, *rix),
            };
            return Ok((events, Some(next)));
        }
        if let Some(event) = shower.room.event(*rix).await?
            && shower.may_relate(&event).await?
        {
            events.push(event);
        }
    }
    Ok((events, None))
}

/// The relations to the event itself.
async fn direct(
    shower: &mut Shower<'_>,
    target: [u8; 16],
    request: &RelationsRequest,
    mut part: Part,
    limit: usize,
) -> Result<Taken, ReadError> {
    let (mut events, mut looked_at) = (Vec::new(), 0);
    while events.len() < limit && part.low < part.high {
        let (places, last) = read_page(shower.room, target, request, part).await?;
        looked_at += PAGE;
        let (some, next) = take_visible(shower, &places, limit - events.len(), part.direction).await?;
        events.extend(some);
        let next = next.or(last);
        let Some(next) = next else { return Ok((events, None)) };
        if events.len() == limit || looked_at >= LOOKED_AT {
            return Ok((events, Some(next)));
        }
        match part.direction {
            PageDirection::Backward => part.high = next,
            PageDirection::Forward => part.low = next,
        }
    }
    Ok((events, None))
}

/// Some relations of a part, as far as their rows say that they are wanted; and where to go on if there may be more.
async fn read_page(
    room: &RoomView<'_>,
    target: [u8; 16],
    request: &RelationsRequest,
    part: Part,
) -> Result<(Vec<Point>, Option<Point>), ReadError> {
    let mut found = BTreeMap::new();
    // Where a kind has more rows than were read, the others count only up to there.
    let mut complete: Option<Point> = None;
    let backward = part.direction == PageDirection::Backward;
    for kind in kinds(request) {
        let range = KeyRange::between(
            &(room.nid, target, kind, part.low.0, part.low.1),
            &(room.nid, target, kind, part.high.0, part.high.1),
        );
        let page = room.view.scan::<schema::Relations>(&range, PAGE, part.direction.into()).await?;
        if page.rest.is_some()
            && let Some((key, _)) = page.rows.last()
        {
            let last = place_of(key);
            let nearer = |known: Point| if backward { known.max(last) } else { known.min(last) };
            complete = Some(complete.map_or(last, nearer));
        }
        found.extend(page.rows.into_iter().map(|(key, row)| (place_of(&key), row)));
    }
    let within = |place: &Point| complete.is_none_or(|end| if backward { *place >= end } else { *place <= end });
    let wanted = found.into_iter().filter(|(place, row)| within(place) && is_wanted(request, row));
    let mut places: Vec<_> = wanted.map(|(place, _)| place).collect();
    if backward {
        places.reverse();
    }
    Ok((places, complete.map(|end| if backward { end } else { after(end) })))
}

fn kinds(request: &RelationsRequest) -> Vec<RelationKind> {
    match &request.rel_type {
        Some(rel_type) => vec![RelationKind::of(rel_type)],
        None => RelationKind::ALL.to_vec(),
    }
}

fn is_wanted(request: &RelationsRequest, row: &RelationRow) -> bool {
    request.rel_type.as_ref().is_none_or(|wanted| *wanted == row.rel_type)
        && request.event_type.as_ref().is_none_or(|wanted| *wanted == row.event_type)
}

/// The places of the events that relate to an event directly or over others, each wanted; what hangs on one that isn't is not found.
async fn descendants(
    room: &RoomView<'_>,
    target: [u8; 16],
    request: &RelationsRequest,
) -> Result<BTreeSet<(primitives::Rank, Rix)>, ReadError> {
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::from([target]));
    let mut level = vec![target];
    let mut looked_at = 0;
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for target in level {
            let mut rest = Some(KeyRange::prefix(&(room.nid, target)));
            while let Some(range) = rest.filter(|_| looked_at < LOOKED_AT) {
                let page = room.view.scan::<schema::Relations>(&range, PAGE, Direction::Backward).await?;
                looked_at += page.rows.len().max(1);
                for (key, row) in page.rows.into_iter().filter(|(_, row)| is_wanted(request, row)) {
                    if seen.insert(row.own_hash) {
                        found.insert(place_of(&key));
                        next.push(row.own_hash);
                    }
                }
                rest = page.rest;
            }
        }
        level = next;
    }
    Ok(found)
}
