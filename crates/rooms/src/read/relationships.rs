//! Walks over the events that relate to each other (`POST /event_relationships`, MSC2836).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use primitives::Rix;
use ruma::{EventId, OwnedEventId};
use serde::Serialize;
use sha2::{Digest, Sha256};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventIds, Relations},
};

use super::{ReadRoomError, Reader, Reads, RoomView, Shower};
use crate::{
    event_key::event_key,
    persist::relation_in,
    render::{Children, ClientEvent, StoredEvent},
};

/// The most events in a response, whatever the client asks for.
const MAX_EVENTS: usize = 500;
/// The most levels that are walked, and the most children of one event that are looked at.
const MAX_DEPTH: usize = 100;
const MAX_BREADTH: usize = 1_000;

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

/// The events of a walk.
#[derive(Clone, Debug, Serialize)]
pub struct Relationships {
    /// The events in the order in which the walk came to them.
    pub events: Vec<ClientEvent>,
    /// Whether there are more.
    pub limited: bool,
}

/// A walk under way.
struct Walk<'a, 'b> {
    shower: &'a mut Shower<'b>,
    request: &'a RelationshipsRequest,
    limit: usize,
    /// The events of the response, in order.
    events: Vec<Arc<StoredEvent>>,
    shown: BTreeSet<Rix>,
    limited: bool,
}

impl Reads {
    /// Walks from an event over those that it relates to, or that relate to it. Not found if the reader may not see the event. Events that they
    /// may not see are left out, and what lies behind them.
    pub async fn relationships(
        &self,
        reader: &Reader,
        request: &RelationshipsRequest,
    ) -> Result<Relationships, ReadRoomError> {
        let view = self.0.storage.view();
        let place = view.get::<EventIds>(&(event_key(&request.event_id),)).await?.ok_or(ReadRoomError::NotFound)?;
        let room = RoomView::by_number(&view, &self.0.caches, place.room).await?.ok_or(ReadRoomError::NotFound)?;
        room.head().await?.ok_or(ReadRoomError::NotFound)?;
        let first = room.event(place.rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if first.header.event_id != request.event_id.as_str() || !shower.eyes.sees(&first.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        let mut walk = Walk {
            limit: request.limit.clamp(1, MAX_EVENTS),
            request,
            events: Vec::new(),
            shown: BTreeSet::new(),
            limited: false,
            shower: &mut shower,
        };
        walk.run(first).await?;
        let Walk { events, limited, .. } = walk;
        let mut shown = shower.show_with_relations(&events).await?;
        for event in &mut shown {
            event.unsigned.children = children_of(&mut shower, &event.event).await?.map(Box::new);
        }
        Ok(Relationships { events: shown, limited })
    }
}

impl Walk<'_, '_> {
    async fn run(&mut self, first: Arc<StoredEvent>) -> Result<(), ReadError> {
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

    /// The event that an event relates to, if the reader may see it. One that was redacted relates to nothing.
    async fn parent(&mut self, event: &StoredEvent) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        let room = self.shower.room;
        if event.header.state_key.is_some() || self.shower.is_emptied(event).await? {
            return Ok(None);
        }
        let Some((_, target)) = relation_in(event.content().get()) else { return Ok(None) };
        let Ok(target) = <&EventId>::try_from(target.as_str()) else { return Ok(None) };
        let Some(rix) = room.find_event(target).await? else { return Ok(None) };
        let Some(parent) = room.event(rix).await? else { return Ok(None) };
        Ok(self.shower.may_relate(&parent).await?.then_some(parent))
    }

    /// The events that relate to an event and that the reader may see, in the order that was asked for.
    async fn children(&mut self, event: &StoredEvent, breadth: usize) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
        let mut children = visible_children(self.shower, event).await?;
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

async fn visible_children(shower: &mut Shower<'_>, event: &StoredEvent) -> Result<Vec<Arc<StoredEvent>>, ReadError> {
    let range = KeyRange::prefix(&(shower.room.nid, shower.room.target_hash(event)));
    let page = shower.room.view.scan_keys::<Relations>(&range, MAX_BREADTH, Direction::Backward).await?;
    let rixes: Vec<_> = page.keys.into_iter().map(|(.., rix)| rix).collect();
    let mut children = Vec::with_capacity(rixes.len());
    for child in shower.room.events(&rixes).await? {
        if shower.may_relate(&child).await? {
            children.push(child);
        }
    }
    Ok(children)
}

/// How many events relate to an event, and a hash of which; `None` if none does.
async fn children_of(shower: &mut Shower<'_>, event: &StoredEvent) -> Result<Option<Children>, ReadError> {
    let children = visible_children(shower, event).await?;
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
