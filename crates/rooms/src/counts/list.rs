//! What a user was told of (client-server API, "Listing Notifications"): found anew in the logs of their rooms, the newest first.

use std::collections::{BinaryHeap, VecDeque};

use primitives::{NodeId, Rix, RoomNid, StreamPosition, UnixMillis};
use ruma::OwnedRoomId;
use serde::Serialize;
use serde_json::Value;
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{Memberships, RoomLog, RoomLogEntry},
};

use super::{Judge, PushEvents, ReadTo, since, thread};
use crate::{
    filter::Filter,
    read::{Reader, Reads, RoomView, Shower, Wishes},
    receipts::Place,
    render::ClientEvent,
    tokens::NotificationToken,
};

/// The notifications of a page if the client doesn't say how many.
pub const DEFAULT_NOTIFICATIONS: usize = 20;
/// The most notifications of a page.
pub const MAX_NOTIFICATIONS: usize = 100;
/// Rows of logs that one page looks at. If they hold less than was asked for, the page is short, but not the last.
const MAX_ROWS: usize = 5_000;
/// Rows of a log that are read at once, and at first: most rooms have nothing among the newest notifications.
const PAGE: usize = 64;
const FIRST_PAGE: usize = 4;

/// Which notifications are asked for.
#[derive(Clone, Copy, Debug)]
pub struct NotificationsRequest {
    /// Those before this place; `None`: the newest.
    pub from: Option<NotificationToken>,
    /// At most this many.
    pub limit: usize,
    /// Only those that stand out.
    pub only_highlights: bool,
}

/// Some notifications, the newest first.
#[derive(Debug, Serialize)]
pub struct NotificationList {
    /// The notifications.
    pub notifications: Vec<Notification>,
    /// From here there may be more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<NotificationToken>,
}

/// An event that the user was to be told of.
#[derive(Debug, Serialize)]
pub struct Notification {
    /// What was to be done.
    pub actions: Vec<Value>,
    /// The event.
    pub event: ClientEvent,
    /// Whether a receipt says that the user has read it.
    pub read: bool,
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event's time, in milliseconds since the Unix epoch.
    pub ts: u64,
}

/// A room whose log is read from the newest row on.
struct Source<'a> {
    room: &'a RoomView<'a>,
    /// Rows that have been read and not looked at, the newest first.
    rows: VecDeque<(NotificationToken, RoomLogEntry)>,
    /// What has not been read.
    rest: Option<KeyRange>,
    /// What is needed to judge and show its events, once the first of them is looked at.
    sight: Option<Sight<'a>>,
}

struct Sight<'a> {
    judge: Judge<'a>,
    shower: Shower<'a>,
    read_to: ReadTo,
    since: Place,
}

/// What a user was told of, being collected.
struct Collection<'a> {
    view: &'a View,
    reader: &'a Reader,
    wishes: &'a Wishes,
    events: &'a PushEvents,
    now: UnixMillis,
    request: NotificationsRequest,
}

impl Reads {
    /// What a user was told of in the rooms that they are in.
    pub async fn notifications(
        &self,
        reader: &Reader,
        request: NotificationsRequest,
    ) -> Result<NotificationList, ReadError> {
        let view = self.0.storage.view();
        let wishes = self.wishes(&view, reader).await?;
        let (events, now) = (&self.0.counts.events, self.0.clock.now());
        let collection = Collection { view: &view, reader, wishes: &wishes, events, now, request };
        let mut rooms = Vec::new();
        for nid in self.0.sync.joined_rooms(&view, reader.user_nid).await?.iter() {
            rooms.extend(RoomView::by_number(&view, &self.0.caches, *nid).await?);
        }
        collection.collect(&rooms).await
    }
}

impl<'a> Collection<'a> {
    async fn collect(&self, rooms: &'a [RoomView<'a>]) -> Result<NotificationList, ReadError> {
        let (mut sources, mut heap) = (Vec::with_capacity(rooms.len()), BinaryHeap::new());
        for (index, room) in rooms.iter().enumerate() {
            let mut source = Source::new(room, self.request.from);
            heap.extend(source.next(self.view, FIRST_PAGE).await?.map(|next| (next, index)));
            sources.push(source);
        }
        let (mut notifications, mut looked_at) = (Vec::new(), 0);
        while let Some((at, index)) = heap.pop() {
            if notifications.len() >= self.request.limit || looked_at >= MAX_ROWS {
                return Ok(NotificationList { notifications, next_token: Some(at) });
            }
            looked_at += 1;
            let source = &mut sources[index];
            let row = source.rows.pop_front();
            if let Some((_, RoomLogEntry::Event { rix, root, .. })) = row {
                notifications.extend(self.notification(source, at, rix, root).await?);
            }
            heap.extend(source.next(self.view, PAGE).await?.map(|next| (next, index)));
        }
        Ok(NotificationList { notifications, next_token: None })
    }

    async fn notification(
        &self,
        source: &mut Source<'a>,
        at: NotificationToken,
        rix: Rix,
        root: NodeId,
    ) -> Result<Option<Notification>, ReadError> {
        let room = source.room;
        let sight = match &mut source.sight {
            Some(sight) => sight,
            none => none.insert(self.sight(room).await?),
        };
        let place = Place::Arrived(at.position, rix);
        if place <= sight.since {
            // What was before the user joined is none of theirs, and so is all before that.
            (source.rest, source.rows) = (None, VecDeque::new());
            return Ok(None);
        }
        let Some(event) = room.event(rix).await? else { return Ok(None) };
        if sight.judge.is_own(&event) {
            return Ok(None);
        }
        let Some(outcome) = sight.judge.outcome(&mut sight.shower.eyes, &event, root).await? else { return Ok(None) };
        if self.request.only_highlights && !outcome.highlight {
            return Ok(None);
        }
        let thread = thread::root_of(room, &event).await?;
        Ok(Some(Notification {
            actions: outcome.actions.clone(),
            read: sight.read_to.has_read(thread.as_deref(), place),
            event: sight.shower.show(&event).await?,
            room_id: room.room_id.clone(),
            ts: event.header.origin_server_ts,
        }))
    }

    async fn sight(&self, room: &'a RoomView<'a>) -> Result<Sight<'a>, ReadError> {
        let member = self.view.get::<Memberships>(&(self.reader.user_nid, room.nid)).await?;
        let rix = member.map_or(Rix(0), |member| member.value.rix);
        let shower = Shower::for_member(room, self.reader, self.wishes, self.now).await?;
        Ok(Sight {
            judge: Judge::new(room, self.reader, self.wishes, self.events, shower.eyes.slot()),
            shower: shower.for_sync(&Filter::default()),
            read_to: ReadTo::load(room, self.reader).await?,
            since: since::joined(room, self.reader, rix).await?,
        })
    }
}

impl<'a> Source<'a> {
    fn new(room: &'a RoomView<'a>, from: Option<NotificationToken>) -> Self {
        let range = match from {
            Some(NotificationToken { position, row }) => {
                KeyRange::until(&(room.nid,), &(room.nid, position, row.saturating_add(1)))
            }
            None => KeyRange::prefix(&(room.nid,)),
        };
        Self { room, rows: VecDeque::new(), rest: Some(range), sight: None }
    }

    /// The place of the next row; reads some more if there is none at hand.
    async fn next(&mut self, view: &View, page: usize) -> Result<Option<NotificationToken>, ReadError> {
        if self.rows.is_empty()
            && let Some(range) = self.rest.take()
        {
            let page = view.scan::<RoomLog>(&range, page, Direction::Backward).await?;
            let place = |(_, position, row): (RoomNid, StreamPosition, u16)| NotificationToken { position, row };
            self.rows.extend(page.rows.into_iter().map(|(key, entry)| (place(key), entry)));
            self.rest = page.rest;
        }
        Ok(self.rows.front().map(|(at, _)| *at))
    }
}
