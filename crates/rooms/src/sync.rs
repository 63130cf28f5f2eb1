//! What is new for a user (`GET /sync`; specification, client-server API, "Syncing").
//!
//! One core says what changed for a user between two positions (`changes.rs`); the parts of the response are made from that, a room at a
//! time, from one view. Incremental timelines follow the order of arrival, initial ones the topological order.

mod account_data;
mod changes;
mod device_lists;
mod ephemeral;
mod invited;
mod memory;
mod pieces;
mod presence;
mod response;
mod room;
mod state_part;
mod summary;
mod timeline;
mod to_device;

use std::{future::Future, time::Duration};

use futures_util::future::{Either, select};
use primitives::{RoomNid, StreamPosition};
use ruma::OwnedRoomId;
use storage::{ReadError, View};
use users::{Keys, News, Waiter};

use crate::{
    filter::Filter,
    partial::Period,
    read::{Reader, Reads, RoomView, Wishes},
    tokens::SyncToken,
};

use changes::UserChanges;
use room::{Asked, Member};

pub(crate) use memory::SyncMemory;
pub use pieces::{ReadTooSlowly, SyncPieces};
pub use response::{
    DeviceLists, Events, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Notifications, RoomSummary, StatePart,
    Stripped, SyncResponse, SyncRooms, SyncTimeline,
};
pub(crate) use summary::{has_name, heroes};

/// The longest that a request is held open, whatever the client asks for.
pub const MAX_TIMEOUT: Duration = Duration::from_mins(5);

/// Under which name, if at all, the client gets the state at the end of the timeline instead of that at its start (MSC4222).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateAfter {
    /// `state`: the state at the start.
    #[default]
    No,
    /// `state_after`, asked for with `use_state_after`.
    Stable,
    /// `org.matrix.msc4222.state_after`, asked for with `org.matrix.msc4222.use_state_after`.
    Unstable,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct SyncRequest {
    /// The `next_batch` of the last response; `None` for an initial sync.
    pub since: Option<SyncToken>,
    /// What the client wants to see.
    pub filter: Filter,
    /// All state of all rooms, not only what changed.
    pub full_state: bool,
    /// How long to wait for news, if there are none.
    pub timeout: Duration,
    /// At which end of the timeline the state is asked for.
    pub state_after: StateAfter,
}

/// The answer to a sync.
#[derive(Debug)]
pub enum SyncAnswer {
    /// All of it.
    Whole(Box<SyncResponse>),
    /// It shows whole rooms: it is made while it is sent.
    Pieces(Box<SyncPieces>),
}

/// A sync that has begun: the waiter hears of everything that the view doesn't show.
struct Begun {
    waiter: Waiter,
    view: View,
    /// Up to here the client has certainly got what was sent.
    acknowledged: StreamPosition,
    /// The client's token is of another database: it knows things, but not what.
    token_void: bool,
}

impl Reads {
    /// What is new for a user since a token; waits for news if there are none. A token of another database, as after a restore, counts as
    /// none: the answer is that of an initial sync.
    ///
    /// Safe to cancel: it has no effect but on what is remembered as sent, which counts only once the client comes back with the token.
    pub async fn sync(&self, reader: &Reader, mut request: SyncRequest) -> Result<SyncResponse, ReadError> {
        let begun = self.begin(reader, &mut request).await?;
        self.whole(begun, reader, request).await
    }

    /// The same, in pieces if it is to show whole rooms: without a token that is valid here, or with `full_state`.
    pub async fn answer_sync(&self, reader: &Reader, mut request: SyncRequest) -> Result<SyncAnswer, ReadError> {
        let begun = self.begin(reader, &mut request).await?;
        if request.since.is_none() || request.full_state {
            return Ok(SyncAnswer::Pieces(Box::new(self.pieces(begun, reader, request).await?)));
        }
        Ok(SyncAnswer::Whole(Box::new(self.whole(begun, reader, request).await?)))
    }

    async fn whole(&self, begun: Begun, reader: &Reader, mut request: SyncRequest) -> Result<SyncResponse, ReadError> {
        let Begun { mut waiter, mut view, acknowledged, token_void } = begun;
        let mut deadline = self.0.clock.sleep(request.timeout.min(MAX_TIMEOUT));
        let wait = request.since.is_some() && !request.full_state && !request.timeout.is_zero();
        loop {
            let response = self.respond(&view, reader, &request, acknowledged, token_void).await?;
            if !wait || !response.is_empty() {
                return Ok(response);
            }
            let news = News { position: view.position(), ephemeral: response.next_batch.ephemeral };
            drop(view);
            if !first_is_ready(waiter.newer_than(news), &mut deadline).await {
                return Ok(response);
            }
            // Up to here there was nothing to tell: what is new can only be later.
            request.since = Some(response.next_batch);
            view = self.0.storage.view();
        }
    }

    /// The token, if it is of this database.
    fn valid(&self, view: &View, since: Option<SyncToken>) -> Option<SyncToken> {
        let now = self.token_of(view);
        since.filter(|since| {
            since.epoch == now.epoch && since.position <= now.position && since.to_device <= since.position
        })
    }

    /// Begins to listen, then takes the view. Drops a token that is not of this database.
    async fn begin(&self, reader: &Reader, request: &mut SyncRequest) -> Result<Begun, ReadError> {
        let waiter = self.0.users.wakeups().waiter(reader.user_nid);
        let view = self.0.storage.view();
        let had_token = request.since.is_some();
        request.since = self.valid(&view, request.since);
        let token_void = had_token && request.since.is_none();
        if request.since.is_none() {
            self.0.sync.start_over(reader, view.position());
        }
        self.acknowledge_messages(reader, request.since).await?;
        let acknowledged = request.since.map_or(StreamPosition::ZERO, |since| since.position);
        Ok(Begun { waiter, view, acknowledged, token_void })
    }

    async fn respond(
        &self,
        view: &View,
        reader: &Reader,
        request: &SyncRequest,
        acknowledged: StreamPosition,
        token_void: bool,
    ) -> Result<SyncResponse, ReadError> {
        let token = self.token_of(view);
        let seen = seen(request, token);
        let changes = self.changes(view, reader, request, seen).await?;
        let asked = Asked { reader, request, acknowledged, token_void, changes: &changes, seen };
        let mut response = self.frame(view, token, &asked).await?;
        self.add_members(view, &asked, &mut response.rooms).await?;
        Ok(response)
    }

    /// A response without the rooms that the user is in or has left.
    async fn frame(&self, view: &View, token: SyncToken, asked: &Asked<'_>) -> Result<SyncResponse, ReadError> {
        let mut response = SyncResponse::new(token);
        response.presence = self.presence(view, asked).await?;
        response.account_data = self.account_data(view, &asked.changes.data, asked).await?;
        self.add_messages(view, asked, &mut response).await?;
        // Whose devices the client knows is not known after a restore: it is to look at everybody's, the user's own among them.
        let since = asked.request.since.map(|since| since.position);
        let lazy = asked.request.filter.room.state.lazy_load_members;
        if let Some(since) = since.or(asked.token_void.then_some(StreamPosition::ZERO)) {
            response.device_lists = self.lists_since(view, asked.reader, since, asked.changes, Some(lazy)).await?;
        }
        if asked.token_void {
            response.device_lists.add(asked.reader.user_id.as_str());
        }
        if let Some(device) = &asked.reader.device_id {
            let left = Keys::left(view, asked.reader.user_nid, device).await?;
            response.device_one_time_keys_count = left.one_time;
            response.device_unused_fallback_key_types = left.unused_fallback;
        }
        self.add_invited(view, asked.changes, asked, &mut response.rooms).await;
        Ok(response)
    }

    /// The rooms that the user is in or has left.
    async fn add_members(&self, view: &View, asked: &Asked<'_>, rooms: &mut SyncRooms) -> Result<(), ReadError> {
        let UserChanges { joined, left, .. } = asked.changes;
        if joined.is_empty() && left.is_empty() {
            return Ok(());
        }
        let wishes = self.wishes(view, asked.reader).await?;
        for (nid, newly) in joined {
            let part = self.member_part(view, *nid, Member::Joined { newly: *newly }, asked, &wishes).await;
            rooms.join.extend(logged(part));
        }
        for left in left {
            let part = self.member_part(view, left.room, Member::Left(*left), asked, &wishes).await;
            rooms.leave.extend(logged(part).map(|(room_id, part)| (room_id, LeftRoom::from(part))));
        }
        Ok(())
    }

    async fn member_part(
        &self,
        view: &View,
        nid: RoomNid,
        member: Member,
        asked: &Asked<'_>,
        wishes: &Wishes,
    ) -> Result<Option<(OwnedRoomId, JoinedRoom)>, ReadError> {
        let Some(room) = self.wanted_room(view, nid, asked).await? else { return Ok(None) };
        let Some(member) = self.as_shown(&room, member, asked).await? else { return Ok(None) };
        let part = self.room_part(&room, asked, wishes, member).await?;
        Ok(part.map(|part| (room.room_id, part)))
    }

    /// A room whose state is partial is not shown to a client that wants all members (MSC3902): to that the room begins when the state is whole.
    async fn as_shown(
        &self,
        room: &RoomView<'_>,
        member: Member,
        asked: &Asked<'_>,
    ) -> Result<Option<Member>, ReadError> {
        if asked.request.filter.room.state.lazy_load_members || !matches!(member, Member::Joined { .. }) {
            return Ok(Some(member));
        }
        let Some(period) = Period::of(room.view, room.nid).await? else { return Ok(Some(member)) };
        if period.whole.is_none() {
            return Ok(None);
        }
        let was_hidden = asked.request.since.is_some_and(|since| period.covers(since.position));
        Ok(Some(if was_hidden { Member::Joined { newly: true } } else { member }))
    }

    /// The room of that number, if there is one and the filter wants it.
    async fn wanted_room<'a>(
        &'a self,
        view: &'a View,
        nid: RoomNid,
        asked: &Asked<'_>,
    ) -> Result<Option<RoomView<'a>>, ReadError> {
        let room = RoomView::by_number(view, &self.0.caches, nid).await?;
        Ok(room.filter(|room| asked.request.filter.room.selects(&room.room_id)))
    }
}

/// How far the client has seen what is in memory. After a restart it is told all of it.
fn seen(request: &SyncRequest, now: SyncToken) -> u64 {
    request.since.filter(|since| since.boot == now.boot).map_or(0, |since| since.ephemeral)
}

/// Waits for either future; whether the first one was ready.
async fn first_is_ready<F: Future>(first: F, second: &mut (impl Future + Unpin)) -> bool {
    let first = std::pin::pin!(first);
    matches!(select(first, second).await, Either::Left(_))
}

/// One room's error never fails a sync: it is logged and the room is left out.
fn logged<T>(part: Result<Option<(OwnedRoomId, T)>, ReadError>) -> Option<(OwnedRoomId, T)> {
    part.unwrap_or_else(|error| {
        tracing::error!(%error, "a room is left out of a sync: it cannot be read");
        None
    })
}

#[cfg(test)]
mod tests;
