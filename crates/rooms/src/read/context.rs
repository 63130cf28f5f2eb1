//! What was around an event (`GET /rooms/{roomId}/context/{eventId}`).

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedEventId, RoomId};
use serde::Serialize;
use storage::ReadError;

use super::{
    Access, PageDirection, ReadRoomError, Reader, Reads, Shower,
    messages::{BEGINNING, END, PageScan, after, page, page_token},
};
use crate::{
    filter::{DEFAULT_LIMIT, MAX_LIMIT, RoomEventFilter},
    remote::Gap,
    render::{ClientEvent, StoredEvent},
    tokens::PageToken,
};

/// Which context is asked for.
#[derive(Clone, Debug)]
pub struct ContextRequest {
    /// Of which event.
    pub event_id: OwnedEventId,
    /// At most how many events before and after it together; 10 if not given.
    pub limit: Option<u64>,
    /// Which events.
    pub filter: RoomEventFilter,
}

/// An event and what was around it.
#[derive(Clone, Debug, Serialize)]
pub struct Context {
    /// The event.
    pub event: ClientEvent,
    /// What was before it, newest first.
    pub events_before: Vec<ClientEvent>,
    /// What came after it, oldest first.
    pub events_after: Vec<ClientEvent>,
    /// From here `/messages` goes on to older events.
    pub start: PageToken,
    /// From here `/messages` goes on to newer events.
    pub end: PageToken,
    /// The state after the last of the events; with lazy loading, of members only the senders.
    pub state: Vec<ClientEvent>,
    /// The newest place, of those that `events_before` go over, where events are missing.
    #[serde(skip)]
    pub(crate) gap: Option<Gap>,
}

impl Reads {
    /// An event, what was around it, and the state at the end. Not found if the reader may not see the event or ignores its
    /// sender.
    pub async fn context(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        request: ContextRequest,
    ) -> Result<Context, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        let head = room.head().await?.ok_or(ReadRoomError::NotFound)?;
        let rix = room.find_event(&request.event_id).await?.ok_or(ReadRoomError::NotFound)?;
        let event = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if shower.ignores(&event) || !shower.eyes.sees(&event.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        let access = Access::of(&head, &mut shower.eyes).await;
        let end = access.map_or(END, |access| access.cut(END));
        let limit =
            request.limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(MAX_LIMIT).min(MAX_LIMIT));
        let here = (event.header.rank, rix);
        let (filter, older) = (&request.filter, limit / 2);
        let scan = |direction, from, to, limit| PageScan { direction, from, to, limit, stop_at_gaps: false };
        let before = page(&mut shower, scan(PageDirection::Backward, here, BEGINNING, older), filter).await?;
        let gap = room.gap_between(before.next.unwrap_or(BEGINNING), here).await?;
        let later = page(&mut shower, scan(PageDirection::Forward, after(here), end, limit - older), filter).await?;

        let first = before.events.last().map_or(here, |event| (event.header.rank, event.rix));
        let last = later.events.last().unwrap_or(&event).clone();
        let mut all = before.events;
        let older = all.len();
        all.extend(later.events.into_iter().chain([event]));
        let state = state_after(&mut shower, &last, &all, filter).await?;
        let mut events_before = shower.show_with_relations(&all).await?;
        let event = events_before.pop().ok_or(ReadRoomError::NotFound)?;
        let events_after = events_before.split_off(older);
        Ok(Context {
            event,
            events_before,
            events_after,
            start: page_token(&room, before.next.unwrap_or(first)),
            end: page_token(&room, later.next.unwrap_or_else(|| after((last.header.rank, last.rix)))),
            state,
            gap: gap.filter(|_| older > 0),
        })
    }
}

/// The state after an event; with lazy loading, of members only the senders of the events shown.
async fn state_after(
    shower: &mut Shower<'_>,
    last: &StoredEvent,
    shown: &[Arc<StoredEvent>],
    filter: &RoomEventFilter,
) -> Result<Vec<ClientEvent>, ReadError> {
    let (room, root) = (shower.room, last.header.root_after);
    let mut entries = room.others(root).await?;
    if filter.lazy_load_members {
        let senders: BTreeSet<&str> = shown.iter().map(|event| event.header.sender.as_str()).collect();
        let mut slots = Vec::with_capacity(senders.len());
        for sender in senders {
            slots.extend(room.slot("m.room.member", sender).await?);
        }
        let found = room.entries(root, &slots).await?;
        entries.extend(slots.into_iter().zip(found).filter_map(|(slot, entry)| Some((slot, entry?))));
    } else {
        entries.extend(room.members(root, |_| true).await?);
    }
    shower.show_all(entries.into_iter().map(|(_, entry)| entry.rix).collect()).await
}
