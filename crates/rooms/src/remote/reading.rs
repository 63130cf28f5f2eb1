//! Reading a room's history as far back as other servers know it: what a client reads that meets a gap waits for the gap to be filled.

use std::time::Duration;

use primitives::Rank;
use ruma::{OwnedEventId, RoomId};
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{EventHeaders, Gaps, Timeline},
};

use super::backfill::{Filled, Gap};
use crate::{
    ReadRoomError, Reader, ReceiveError, Room, Rooms,
    read::{Context, ContextRequest, EventAtTime, Messages, MessagesRequest, PageDirection},
};

/// Parts of history that are fetched for one request.
const PARTS: usize = 5;
/// The same for the event closest to a time, which may be far back.
const PARTS_FOR_TIME: usize = 10;
/// How long a client waits for history.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Servers that are asked for the event closest to a time.
const SERVERS_FOR_TIME: usize = 3;
/// Gaps of one room that are looked through for the one in which an event must be.
const MAX_GAPS: usize = 100;

impl Rooms {
    /// A page of a room's timeline, with what other servers have where events are missing here. A page that would go on beyond events that are still to come
    /// ends before them; where nobody has them, it goes on.
    ///
    /// # Errors
    /// Those of [`crate::Reads::messages`].
    pub async fn messages(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: MessagesRequest,
    ) -> Result<Messages, ReadRoomError> {
        let until = self.context().clock.monotonic().saturating_add(PATIENCE);
        let mut page = self.reads().messages(reader, room_id, request.clone()).await?;
        for part in 0.. {
            let Some(gap) = page.gap.take() else { break };
            let rank = gap.rank;
            let filled = if part < PARTS { self.fill(room_id, gap, until).await? } else { Filled::Later };
            match filled {
                Filled::More => page = self.reads().messages(reader, room_id, request.clone()).await?,
                Filled::Nothing if page.end.is_some() => break,
                Filled::Nothing | Filled::Later => {
                    return self.reads().messages_above(reader, room_id, request, rank).await;
                }
            }
        }
        Ok(page)
    }

    /// An event and what was around it, with what other servers have where events are missing here.
    ///
    /// # Errors
    /// Those of [`crate::Reads::context`].
    pub async fn message_context(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: ContextRequest,
    ) -> Result<Context, ReadRoomError> {
        let until = self.context().clock.monotonic().saturating_add(PATIENCE);
        let mut context = self.reads().context(reader, room_id, request.clone()).await?;
        for _ in 0..PARTS {
            let Some(gap) = context.gap.take() else { break };
            if self.fill(room_id, gap, until).await? != Filled::More {
                break;
            }
            context = self.reads().context(reader, room_id, request.clone()).await?;
        }
        Ok(context)
    }

    /// The event that is closest to a time in a direction, of those that the reader sees. Where events are missing here, other servers are asked what they
    /// have; what they name is fetched, and counts only once it is here.
    ///
    /// # Errors
    /// Those of [`crate::Reads::event_at_time`].
    pub async fn event_at_time(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        ts: u64,
        direction: PageDirection,
    ) -> Result<EventAtTime, ReadRoomError> {
        let here = self.reads().event_at_time(reader, room_id, ts, direction).await;
        if !matches!(here, Ok(_) | Err(ReadRoomError::NotFound)) {
            return here;
        }
        let Ok(room) = self.room(room_id).await else { return here };
        let best = here.as_ref().ok().map(|found| found.origin_server_ts);
        let until = self.context().clock.monotonic().saturating_add(PATIENCE);
        let asked = async { room.fetch_event_at(ts, direction, best, until).await };
        let late = self.context().clock.sleep(PATIENCE);
        let fetched = tokio::select! {
            fetched = asked => fetched.map_err(unwritten)?,
            () = late => false,
        };
        if fetched { self.reads().event_at_time(reader, room_id, ts, direction).await } else { here }
    }

    async fn fill(&self, room_id: &RoomId, gap: Gap, until: Duration) -> Result<Filled, ReadRoomError> {
        let Ok(room) = self.room(room_id).await else { return Ok(Filled::Nothing) };
        room.fill_gap(gap, until).await.map_err(unwritten)
    }
}

impl Room {
    /// Fetches the event closest to a time from servers that may know a closer one than the best here. Whether there is more history here now.
    async fn fetch_event_at(
        &self,
        ts: u64,
        direction: PageDirection,
        best: Option<u64>,
        until: Duration,
    ) -> Result<bool, ReceiveError> {
        let Some(remote) = &self.context().remote else { return Ok(false) };
        let Some(highest) = self.gaps(Direction::Backward, 1).await?.pop() else { return Ok(false) };
        let forward = direction == PageDirection::Forward;
        let closer = |found: u64| {
            let fits = if forward { found >= ts } else { found <= ts };
            fits && best.is_none_or(|best| found.abs_diff(ts) < best.abs_diff(ts))
        };
        for server in self.servers_with_history(highest.rank).await?.into_iter().take(SERVERS_FOR_TIME) {
            match remote.client.timestamp_to_event(&server, self.id(), ts, forward).await {
                Ok(found) if closer(found.origin_server_ts.0) => {
                    return self.fetch_back_to(&found.event_id, found.origin_server_ts.0, until).await;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%server, room_id = %self.id(), %error, "a server names no event"),
            }
        }
        Ok(false)
    }

    /// Fills gaps until an event is here that a server says was sent at a time.
    pub(super) async fn fetch_back_to(
        &self,
        id: &OwnedEventId,
        ts: u64,
        until: Duration,
    ) -> Result<bool, ReceiveError> {
        let mut more = false;
        for _ in 0..PARTS_FOR_TIME {
            if self.not_in_timeline(std::slice::from_ref(id)).await?.is_empty() {
                return Ok(more);
            }
            let Some(gap) = self.gap_around(ts).await? else { break };
            if self.fill_gap(gap, until).await? != Filled::More {
                break;
            }
            more = true;
        }
        Ok(more)
    }

    /// The oldest gap before an event that was sent at a time or after it.
    async fn gap_around(&self, ts: u64) -> Result<Option<Gap>, ReadError> {
        let (view, room) = (self.context().storage.view(), self.nid());
        let mut newest = None;
        for gap in self.gaps(Direction::Forward, MAX_GAPS).await? {
            let range = KeyRange::prefix(&(room, gap.rank));
            let at = view.scan_keys::<Timeline>(&range, 1, Direction::Forward).await?.keys;
            let sent = match at.first() {
                Some((_, _, rix)) => view.get::<EventHeaders>(&(room, *rix)).await?,
                None => None,
            };
            if sent.is_some_and(|header| header.value.origin_server_ts >= ts) {
                return Ok(Some(gap));
            }
            newest = Some(gap);
        }
        Ok(newest)
    }

    pub(super) async fn gaps(&self, from: Direction, most: usize) -> Result<Vec<Gap>, ReadError> {
        let view = self.context().storage.view();
        let page = view.scan::<Gaps>(&KeyRange::prefix(&(self.nid(),)), most, from).await?;
        let gap = |((_, rank), row): ((_, Rank), storage::schema::rooms::EventIdList)| Gap::of(rank, &row.0);
        Ok(page.rows.into_iter().map(gap).collect())
    }
}

pub(super) fn unwritten(error: ReceiveError) -> ReadRoomError {
    match error {
        ReceiveError::Storage(error) => error.into(),
        ReceiveError::UnknownRoom => ReadRoomError::NotFound,
        ReceiveError::Unavailable => ReadError::Engine("history could not be stored".to_owned()).into(),
    }
}
