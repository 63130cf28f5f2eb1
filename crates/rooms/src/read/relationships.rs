//! Walks over the events that relate to each other (`POST /event_relationships`, MSC2836).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use federation_client::calls::relationships::{RelationshipsQuery, WalkDirection};
use primitives::{Rank, Rix};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventIds, EventKind, Gaps, Relations},
};

use super::{ReadRoomError, Reader, Reads, RoomView, Shower};
use crate::{
    event_key::event_key,
    persist::relation_in,
    render::{Children, ClientEvent, StoredEvent},
    visibility::{Eyes, Standing},
};

/// The most events in a response, whatever the client asks for.
const MAX_EVENTS: usize = 500;
/// The most levels that are walked, and the most children of one event that are looked at.
const MAX_DEPTH: usize = 100;
const MAX_BREADTH: usize = 1_000;
/// Events that a walk notes as to be asked for elsewhere.
const MAX_WANTED: usize = 10;

/// In which order a walk comes to events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkOrder {
    /// Along one level before the next.
    BreadthFirst,
    /// Down one branch before the next.
    DepthFirst,
}

/// Where a walk leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To what events relate to.
    Parents,
    /// To what relates to them.
    Children,
}

/// Which events are asked for.
#[derive(Clone, Debug)]
pub struct RelationshipsRequest {
    /// Where the walk starts.
    pub event_id: OwnedEventId,
    /// How many levels are walked; `None`: as many as the server lets one walk.
    pub max_depth: Option<usize>,
    /// How many children of an event are followed; `None`: as many as the server lets one follow.
    pub max_breadth: Option<usize>,
    /// The most events in the response.
    pub limit: usize,
    /// In which order the events are walked.
    pub order: WalkOrder,
    /// The newest children first.
    pub recent_first: bool,
    /// Also the event that the first one relates to.
    pub include_parent: bool,
    /// Also all the events that relate to the first one.
    pub include_children: bool,
    /// Where the walk leads.
    pub towards: Towards,
}

/// Why a query asks for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadWalk {
    /// It names no event.
    #[error("`event_id` is not an event id")]
    Event,
    /// It leads nowhere.
    #[error("`direction` is `up` or `down`")]
    Direction,
}

impl RelationshipsRequest {
    /// What a query asks for. Numbers below zero are without bound.
    ///
    /// # Errors
    /// It makes no sense.
    pub fn of(query: &RelationshipsQuery) -> Result<Self, BadWalk> {
        Ok(Self {
            event_id: query.event_id.as_str().try_into().map_err(|_| BadWalk::Event)?,
            max_depth: usize::try_from(query.max_depth).ok(),
            max_breadth: usize::try_from(query.max_breadth).ok(),
            limit: usize::try_from(query.limit).unwrap_or(usize::MAX),
            order: if query.depth_first { WalkOrder::DepthFirst } else { WalkOrder::BreadthFirst },
            recent_first: query.recent_first,
            include_parent: query.include_parent,
            include_children: query.include_children,
            towards: match query.direction {
                WalkDirection::Up => Towards::Parents,
                WalkDirection::Down => Towards::Children,
                WalkDirection::Unknown => return Err(BadWalk::Direction),
            },
        })
    }
}

/// Somebody who walks over the events of a room: a user, or another server.
pub(super) trait Walker: Send {
    /// The room.
    fn room(&self) -> &RoomView<'_>;

    /// Whether they are shown an event that relates to another.
    fn may_relate(&mut self, event: &StoredEvent) -> impl Future<Output = Result<bool, ReadError>> + Send;

    /// Whether an event is shown to them without what it said.
    fn is_emptied(&mut self, event: &StoredEvent) -> impl Future<Output = Result<bool, ReadError>> + Send;
}

impl Walker for Shower<'_> {
    fn room(&self) -> &RoomView<'_> {
        self.room
    }

    async fn may_relate(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        Shower::may_relate(self, event).await
    }

    async fn is_emptied(&mut self, event: &StoredEvent) -> Result<bool, ReadError> {
        Shower::is_emptied(self, event).await
    }
}

/// The events of a walk.
#[derive(Clone, Debug, Serialize)]
pub struct Relationships {
    /// The events in the order in which the walk came to them.
    pub events: Vec<ClientEvent>,
    /// Whether there are more.
    pub limited: bool,
}

/// What a user's walk has found, and what it has not.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) found: Relationships,
    /// The room.
    pub(crate) room_id: OwnedRoomId,
    /// Events that are not here, and such as may have children that are not here.
    pub(crate) wanted: Vec<OwnedEventId>,
}

/// A walk under way.
pub(super) struct Walk<'a, W> {
    walker: &'a mut W,
    request: &'a RelationshipsRequest,
    limit: usize,
    /// The events of the response, in order.
    pub(super) events: Vec<Arc<StoredEvent>>,
    shown: BTreeSet<Rix>,
    pub(super) limited: bool,
    /// The highest rank before which events are missing: what relates to an event below may be among them.
    highest_gap: Option<Rank>,
    wanted: Vec<OwnedEventId>,
}

impl Reads {
    /// Walks from an event over those that it relates to, or that relate to it. Not found if the reader may not see the event. Events that they
    /// may not see are left out, and what lies behind them.
    pub(crate) async fn walk_relations(
        &self,
        reader: &Reader,
        request: &RelationshipsRequest,
    ) -> Result<Walked, ReadRoomError> {
        let view = self.0.storage.view();
        let place = view.get::<EventIds>(&(event_key(&request.event_id),)).await?.ok_or(ReadRoomError::NotFound)?;
        let room = RoomView::by_number(&view, &self.0.caches, place.room).await?.ok_or(ReadRoomError::NotFound)?;
        room.head().await?.ok_or(ReadRoomError::NotFound)?;
        let first = room.event(place.rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if first.header.event_id != request.event_id.as_str() || !shower.eyes.sees(&first.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        let mut walk = Walk::new(&mut shower, request);
        let gaps = view.scan_keys::<Gaps>(&KeyRange::prefix(&(room.nid,)), 1, Direction::Backward).await?;
        walk.highest_gap = gaps.keys.first().map(|(_, rank)| *rank);
        walk.run(first).await?;
        let Walk { events, limited, wanted, .. } = walk;
        let mut shown = shower.show_with_relations(&events).await?;
        for event in &mut shown {
            event.unsigned.children = children_of(&mut shower, &event.event).await?.map(Box::new);
        }
        Ok(Walked { found: Relationships { events: shown, limited }, room_id: room.room_id.clone(), wanted })
    }

    /// Whether a reader may have other servers asked for an event of a room: they are in the room, and nothing is known here of where the event stands.
    pub(crate) async fn may_ask_for(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<bool, ReadError> {
        let view = self.0.storage.view();
        let Some(room) = self.room(&view, room_id).await? else { return Ok(false) };
        if room.head().await?.is_none() {
            return Ok(false);
        }
        let eyes = Eyes::open(&room, &reader.user_id, reader.user_nid).await?;
        Ok(matches!(eyes.standing(), Standing::Joined) && room.is_unplaced(event_id).await?)
    }
}

impl RoomView<'_> {
    /// Whether an event is not in the room's timeline as far as it is known here.
    async fn is_unplaced(&self, event_id: &EventId) -> Result<bool, ReadError> {
        let Some(rix) = self.find_event(event_id).await? else { return Ok(true) };
        Ok(self.event(rix).await?.is_some_and(|event| event.header.kind == EventKind::Outlier))
    }
}

impl<'a, W: Walker> Walk<'a, W> {
    pub(super) fn new(walker: &'a mut W, request: &'a RelationshipsRequest) -> Self {
        Self {
            limit: request.limit.clamp(1, MAX_EVENTS),
            request,
            events: Vec::new(),
            shown: BTreeSet::new(),
            limited: false,
            highest_gap: None,
            wanted: Vec::new(),
            walker,
        }
    }

    pub(super) async fn run(&mut self, first: Arc<StoredEvent>) -> Result<(), ReadError> {
        self.add(&first);
        if self.request.include_parent
            && let Some(parent) = self.parent(&first).await?
        {
            self.add(&parent);
        }
        if self.request.include_children {
            for child in self.children(&first, MAX_BREADTH).await? {
                self.add(&child);
            }
        }
        let (max_depth, breadth) = (
            self.request.max_depth.unwrap_or(MAX_DEPTH).min(MAX_DEPTH),
            self.request.max_breadth.unwrap_or(MAX_BREADTH).min(MAX_BREADTH),
        );
        let mut walked = BTreeSet::new();
        let mut ahead = VecDeque::from([(first, 0)]);
        while let Some((event, depth)) = ahead.pop_front() {
            if self.limited || !walked.insert(event.rix) {
                continue;
            }
            self.add(&event);
            if depth == max_depth {
                continue;
            }
            let next: Vec<_> = if self.request.towards == Towards::Parents {
                self.parent(&event).await?.into_iter().collect()
            } else {
                self.children(&event, breadth).await?
            };
            let next = next.into_iter().map(|event| (event, depth + 1));
            if self.request.order == WalkOrder::DepthFirst {
                for step in next.rev() {
                    ahead.push_front(step);
                }
            } else {
                ahead.extend(next);
            }
        }
        Ok(())
    }

    /// Adds an event to the response, if it isn't there and there is room for it.
    fn add(&mut self, event: &Arc<StoredEvent>) {
        if self.shown.contains(&event.rix) {
            return;
        }
        if self.events.len() == self.limit {
            self.limited = true;
            return;
        }
        self.shown.insert(event.rix);
        self.events.push(Arc::clone(event));
    }

    fn want(&mut self, id: &EventId) {
        if self.wanted.len() < MAX_WANTED && self.wanted.iter().all(|wanted| wanted != id) {
            self.wanted.push(id.to_owned());
        }
    }

    /// The event that an event relates to, if the reader may see it. One that was redacted relates to nothing.
    async fn parent(&mut self, event: &StoredEvent) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        if event.header.state_key.is_some() || self.walker.is_emptied(event).await? {
            return Ok(None);
        }
        let Some((_, target)) = relation_in(event.content().get()) else { return Ok(None) };
        let Ok(target) = <&EventId>::try_from(target.as_str()) else { return Ok(None) };
        if self.walker.room().is_unplaced(target).await? {
            self.want(target);
        }
        let Some(rix) = self.walker.room().find_event(target).await? else { return Ok(None) };
        let Some(parent) = self.walker.room().event(rix).await? else { return Ok(None) };
        Ok(self.walker.may_relate(&parent).await?.then_some(parent))
    }

    /// The events that relate to an event and that the reader may see, in the order that was asked for.
    async fn children(&mut self, event: &StoredEvent, breadth: usize) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        if self.highest_gap.is_some_and(|gap| event.header.rank < gap)
            && let Ok(id) = <&EventId>::try_from(event.header.event_id.as_str())
        {
            self.want(id);
        }
        let mut children = visible_children(self.walker, event).await?;
        let order = |event: &Arc<StoredEvent>| (event.header.origin_server_ts, event.header.rank, event.rix);
        if self.request.recent_first {
            children.sort_by_key(|child| Reverse(order(child)));
        } else {
            children.sort_by_key(order);
        }
        children.truncate(breadth);
        Ok(children)
    }
}

async fn visible_children<W: Walker>(walker: &mut W, event: &StoredEvent) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
    let room = walker.room();
    let range = KeyRange::prefix(&(room.nid, room.target_hash(event)));
    let page = room.view.scan_keys::<Relations>(&range, MAX_BREADTH, Direction::Backward).await?;
    let rixes: Vec<_> = page.keys.into_iter().map(|(.., rix)| rix).collect();
    let (found, mut children) = (room.events(&rixes).await?, Vec::with_capacity(rixes.len()));
    for child in found {
        if walker.may_relate(&child).await? {
            children.push(child);
        }
    }
    Ok(children)
}

/// How many events relate to an event, and a hash of which; `None` if none does.
pub(super) async fn children_of<W: Walker>(walker: &mut W, event: &StoredEvent) -> Result<Option<Children>, ReadError> {
    let children = visible_children(walker, event).await?;
    let (mut counts, mut ids) = (BTreeMap::<String, u64>::new(), BTreeSet::new());
    for child in &children {
        let Some((rel_type, _)) = relation_in(child.content().get()) else { continue };
        if ids.insert(child.header.event_id.as_str()) {
            *counts.entry(rel_type).or_default() += 1;
        }
    }
    let mut hash = Sha256::new();
    for id in &ids {
        hash.update(id.as_bytes());
    }
    Ok((!ids.is_empty()).then(|| Children { counts, hash: STANDARD_NO_PAD.encode(hash.finalize()) }))
}
