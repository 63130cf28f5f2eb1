//! What one room contributes to a sync.

use std::collections::BTreeMap;

use primitives::{NodeId, Rix, StreamPosition};
use storage::ReadError;

use super::{
    StateAfter, SyncRequest,
    changes::{Left, UserChanges},
    response::{Events, JoinedRoom, Notifications, StatePart, SyncTimeline},
    state_part::{Extent, StateNeed},
    timeline::{Span, Window, arrived, newest},
};
use crate::{
    counts::Counted,
    read::{END, Point, Reader, Reads, RoomView, Shower, Wishes, after, page_token},
    render::ClientEvent,
    visibility::Standing,
};

/// Who asks for what.
pub(super) struct Asked<'a> {
    /// Who asks.
    pub(super) reader: &'a Reader,
    /// For what.
    pub(super) request: &'a SyncRequest,
    /// What was sent up to here has arrived at the client.
    pub(super) acknowledged: StreamPosition,
    /// The client's token is of another database.
    pub(super) token_void: bool,
    /// What changed for them.
    pub(super) changes: &'a UserChanges,
    /// Up to which change in memory they have been told.
    pub(super) seen: u64,
}

/// How the user stands to the room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    /// In it.
    Joined {
        /// Since the last sync.
        newly: bool,
    },
    /// No longer in it.
    Left(Left),
}

/// Up to where the user is told of a room.
#[derive(Clone, Copy, Debug)]
struct End {
    root: NodeId,
    position: StreamPosition,
    /// The last event in the order of arrival, where others of its batch come after it.
    last: Option<Rix>,
    /// The last point in topological order.
    point: Point,
}

impl Reads {
    /// What is new in a room; `None` if nothing is.
    pub(super) async fn room_part(
        &self,
        room: &RoomView<'_>,
        asked: &Asked<'_>,
        wishes: &Wishes,
        member: Member,
    ) -> Result<Option<JoinedRoom>, ReadError> {
        let Some(head) = room.head().await? else { return Ok(None) };
        let request = asked.request;
        let now = self.0.clock.now();
        let shower = match member {
            Member::Joined { .. } => Shower::for_member(room, asked.reader, wishes, now).await?,
            Member::Left(_) => Shower::open(room, asked.reader, now).await?,
        };
        let mut shower = shower.for_sync(&request.filter);
        let end = match (member, shower.eyes.standing()) {
            (Member::Joined { .. }, _) => {
                End { root: head.root, position: room.view.position(), last: None, point: END }
            }
            (Member::Left(left), Standing::Left { rix, rank, root }) if left.was_in => {
                let position = if rix == left.rix { left.position } else { self.position_of(room, rix).await? };
                End { root, position, last: Some(rix), point: after((rank, rix)) }
            }
            (Member::Left(left), _) => return self.refused_invite(&mut shower, asked, left.rix).await,
        };
        let newly = matches!(member, Member::Joined { newly: true });
        let since = request.since.map(|since| since.position.min(end.position));
        let window = self.window(&mut shower, asked, since.filter(|_| !newly), end).await?;
        let whole = since.is_none() || newly || request.full_state;
        let account_data = self.room_account_data(room, asked, whole).await?;
        let ephemeral = match member {
            Member::Joined { .. } => self.ephemeral(room, asked, since.is_none() || newly).await?,
            Member::Left(_) => Events::default(),
        };
        let counted = match member {
            Member::Joined { .. } => self.unread(room, asked.reader, wishes, &mut shower.eyes).await?,
            Member::Left(_) => None,
        };
        let recounted = counted.as_ref().zip(since).is_some_and(|(counted, since)| counted.changed_after(since));
        let quiet = !whole && account_data.is_empty() && ephemeral.is_empty() && !recounted;
        if quiet && !window.moved {
            return Ok(None);
        }
        let window = Window { limited: window.limited || (newly && self.existed(room, since).await?), ..window };
        let extent = match since {
            Some(since) if !newly && !request.full_state => match &window.changed {
                Some(slots) => Extent::Slots(slots.iter().copied().collect()),
                None => Extent::Since(room.last_event_at(since).await?.map_or(NodeId(0), |(_, root)| root)),
            },
            _ => Extent::All,
        };
        let need = StateNeed { asked, extent, root: end.root, window: &window };
        let mut state = self.state_part(&mut shower, need).await?;
        if let (Member::Left(left), Some(last)) = (member, end.last)
            && left.rix != last
        {
            // Banned after having left, say: that is all the user is told of what came after.
            state.events.push(left.rix);
        }
        if quiet && window.events.is_empty() && !window.limited && state.is_empty() {
            return Ok(None);
        }
        let unread = Unread::of(counted.as_deref(), request.filter.room.timeline.unread_thread_notifications);
        Ok(Some(JoinedRoom {
            summary: state.summary,
            state: named(request.state_after, shower.show_all(state.events).await?),
            timeline: SyncTimeline {
                limited: window.limited,
                prev_batch: page_token(room, window.prev),
                events: shown(&mut shower, &window).await?,
            },
            ephemeral,
            account_data,
            unread_notifications: unread.all,
            unread_thread_notifications: unread.threads,
        }))
    }

    async fn window(
        &self,
        shower: &mut Shower<'_>,
        asked: &Asked<'_>,
        since: Option<StreamPosition>,
        end: End,
    ) -> Result<Window, ReadError> {
        let filter = &asked.request.filter.room.timeline;
        match since {
            Some(since) => {
                arrived(shower, Span { since, upto: end.position, last: end.last }, filter.limit(), filter).await
            }
            None => newest(shower, end.point, filter.limit(), filter).await,
        }
    }

    /// Whether the room had events before a position: then a user who has joined since is not shown all of it.
    async fn existed(&self, room: &RoomView<'_>, since: Option<StreamPosition>) -> Result<bool, ReadError> {
        match since {
            Some(since) => Ok(room.last_event_at(since).await?.is_some()),
            None => Ok(false),
        }
    }

    async fn position_of(&self, room: &RoomView<'_>, rix: Rix) -> Result<StreamPosition, ReadError> {
        Ok(room.event(rix).await?.map_or(StreamPosition::ZERO, |event| event.position))
    }

    /// The end of an invite or a knock: of the room, its user sees just that.
    async fn refused_invite(
        &self,
        shower: &mut Shower<'_>,
        asked: &Asked<'_>,
        rix: Rix,
    ) -> Result<Option<JoinedRoom>, ReadError> {
        let Some(event) = shower.room.event(rix).await? else { return Ok(None) };
        let prev_batch = page_token(shower.room, (event.header.rank, rix));
        let events = shower.show_each(&[event]).await?;
        Ok(Some(JoinedRoom {
            summary: None,
            state: named(asked.request.state_after, Vec::new()),
            timeline: SyncTimeline { events, limited: false, prev_batch },
            ephemeral: Events::default(),
            account_data: Events::default(),
            unread_notifications: None,
            unread_thread_notifications: BTreeMap::new(),
        }))
    }
}

/// The timeline. Where it is not cut, the client has the related events too, and aggregates them itself.
async fn shown(shower: &mut Shower<'_>, window: &Window) -> Result<Vec<ClientEvent>, ReadError> {
    if window.limited {
        shower.show_with_relations(&window.events).await
    } else {
        shower.show_each(&window.events).await
    }
}

/// A room's unread counts as the client wants them.
struct Unread {
    all: Option<Notifications>,
    threads: BTreeMap<String, Notifications>,
}

impl Unread {
    /// All in one, or those of threads apart.
    fn of(counted: Option<&Counted>, by_thread: bool) -> Self {
        let Some(counted) = counted else { return Self { all: None, threads: BTreeMap::new() } };
        if !by_thread {
            return Self { all: Some(counted.total().into()), threads: BTreeMap::new() };
        }
        let threads = counted.threads().map(|(root, unread)| (root.to_owned(), unread.into())).collect();
        Self { all: Some(counted.main().into()), threads }
    }
}

/// The state under the name that the client asked for.
pub(super) fn named(name: StateAfter, events: Vec<ClientEvent>) -> StatePart {
    let events = Events { events };
    match name {
        StateAfter::No => StatePart::Before(events),
        StateAfter::Stable => StatePart::After(events),
        StateAfter::Unstable => StatePart::AfterUnstable(events),
    }
}
