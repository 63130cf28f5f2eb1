//! Bulk, in stages: how a room of tens of thousands of state events comes here, as with a join through another server.
//!
//! Everything is written in bounded batches that nothing shows: events as outliers with their auth edges ([`Staging::take_in`]), then slots and tree nodes of
//! the state ([`Staging::state`]). Each batch raises the counters in the room's head, and none moves what the head points to. One last small batch does
//! ([`Staging::begin`]): with it the room is there, whole, with one event in its timeline.
//!
//! A room that is new here has no row in `room_id` and `room` until then, so that nobody finds it; `staged_room` knows its number, so that after a kill the
//! same work goes on with what is there. What is never finished is garbage that nobody sees. In a room that is known here, but in which no local user is left, the same
//! steps end with state and extremities replaced.

mod state;

use std::sync::Arc;

use primitives::{NodeId, RoomNid, SharedClock};
use ruma::{OwnedEventId, RoomId};
use storage::{
    Batch, CommitError, ReadError, Text,
    schema::{
        jobs::StagedRooms,
        rooms::{RoomHeads, RoomIds},
    },
};
use tokio::sync::oneshot;

use crate::{
    EventKeys, Incoming, ReceiveError, Received, Room, RoomVersion, Rooms,
    event_key::find_room,
    memory::{Memory, RoomInfo},
    partial::PartialJoin,
    receive::Prepared,
    worker::Request,
};

/// Events of a state that become slots and tree nodes in one batch.
const STATE_AT_ONCE: usize = 500;
/// Attempts at a room number that others take at the same time.
const ATTEMPTS: usize = 8;

/// Why a room was not staged, or has not begun.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// These events are needed first. Nothing of the step that asked is stored that would have to be taken back.
    #[error("{} events are needed first", .0.len())]
    Missing(Vec<OwnedEventId>),
    /// The event is not what a room can begin with: of another room, not properly signed, or not allowed by the state.
    #[error("the room cannot begin with the event: {0}")]
    Refused(String),
    /// Local users are in the room: it takes events as they come.
    #[error("local users are in the room already")]
    Joined,
    /// An assert of the rider did not hold. Nothing is stored.
    #[error("the rider has been overtaken")]
    RiderConflict,
    /// The room is of another version here.
    #[error("the room is known here with another version")]
    Version,
    /// The store can't take it now.
    #[error("the room cannot be written to at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<ReceiveError> for StageError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Storage(error) => Self::Storage(error),
            ReceiveError::UnknownRoom | ReceiveError::Unavailable => Self::Unavailable,
        }
    }
}

/// A room that is being put together.
#[derive(Clone, Debug)]
pub struct Staging {
    room: Room,
}

/// A state that is stored and that nothing shows yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedState(pub(crate) NodeId);

/// What a room's worker is asked.
pub(crate) enum StageRequest {
    /// Add these events to a state.
    State { root: NodeId, ids: Vec<OwnedEventId>, reply: oneshot::Sender<Result<NodeId, StageError>> },
    /// Let the room begin with an event.
    Begin { begin: Box<Begin>, reply: oneshot::Sender<Result<(), StageError>> },
}

/// What a room begins with.
pub(crate) struct Begin {
    pub(crate) event: Prepared,
    pub(crate) state: NodeId,
    pub(crate) rider: Batch,
    /// The state is only a part of what it should be.
    pub(crate) partial: Option<PartialJoin>,
}

impl Rooms {
    /// Puts a room together that is to begin here. Asked again for the same room, also after a restart, goes on with what is stored.
    pub async fn stage(&self, id: &RoomId, version: RoomVersion) -> Result<Staging, StageError> {
        let storage = &self.context().storage;
        let key = (Text::new(id.as_str()),);
        for _ in 0..ATTEMPTS {
            let view = storage.view();
            if let Some((nid, known)) = find_room(&view, id).await? {
                return self.staging(RoomInfo { nid, room_id: id.to_owned(), version: known }, version);
            }
            if let Some(nid) = view.get::<StagedRooms>(&key).await? {
                return self.staging(RoomInfo { nid, room_id: id.to_owned(), version }, version);
            }
            let nid = self.new_number().await.map_err(|_| StageError::Unavailable)?;
            let info = RoomInfo { nid, room_id: id.to_owned(), version };
            let mut batch = Batch::new();
            batch.assert_absent::<StagedRooms>(&key).assert_absent::<RoomIds>(&key).put::<StagedRooms>(&key, &nid);
            batch.put::<RoomHeads>(&(nid,), &Memory::new(info).head);
            match storage.commit(batch).await {
                Ok(_) | Err(CommitError::Conflict(_)) => {}
                Err(_) => return Err(StageError::Unavailable),
            }
        }
        Err(StageError::Unavailable)
    }

    fn staging(&self, info: RoomInfo, version: RoomVersion) -> Result<Staging, StageError> {
        if info.version != version {
            return Err(StageError::Version);
        }
        Ok(Staging { room: Room::new(self.clone(), Arc::new(info)) })
    }
}

impl Staging {
    /// The id of the room.
    pub(crate) fn id(&self) -> &RoomId {
        self.room.id()
    }

    /// The server's clock.
    pub(crate) fn clock(&self) -> &SharedClock {
        &self.room.context().clock
    }

    /// The number of the room.
    pub(crate) fn number(&self) -> RoomNid {
        self.room.nid()
    }

    /// Takes in events of the state and of its auth chain, in any order, in batches of a few dozen. One whose auth events are not here yet is answered with
    /// [`Received::Missing`] and not stored: give those first, or it again later.
    pub async fn take_in(&self, events: Vec<Vec<u8>>, keys: &impl EventKeys) -> Result<Vec<Received>, StageError> {
        let events = events.into_iter().map(|json| Incoming { outlier: true, ..Incoming::new(json) });
        Ok(self.room.receive(events.collect(), keys).await?)
    }

    /// Puts a state together of events that were taken in. Rejected ones are no state and are left out.
    pub async fn state(&self, events: &[OwnedEventId]) -> Result<StagedState, StageError> {
        Ok(StagedState(self.room.put_state_together(events).await?))
    }

    /// Lets the room begin with an event, usually a join, whose state before is the one that was put together. When this returns, the room is there for
    /// everybody. The rider is written in the same batch. Done twice, it is done once.
    pub async fn begin(
        self,
        event: Vec<u8>,
        state: StagedState,
        keys: &impl EventKeys,
        rider: Batch,
    ) -> Result<Room, StageError> {
        self.begin_with(event, state, keys, rider, None).await
    }

    /// The same with a state that may be only a part of what it should be, as who gave it says.
    pub(crate) async fn begin_with(
        self,
        event: Vec<u8>,
        state: StagedState,
        keys: &impl EventKeys,
        rider: Batch,
        partial: Option<PartialJoin>,
    ) -> Result<Room, StageError> {
        let event = self.room.prepare(Incoming::new(event), keys).await.map_err(StageError::Refused)?;
        let begin = Box::new(Begin { event, state: state.0, rider, partial });
        self.room.ask_to_stage(|reply| StageRequest::Begin { begin, reply }).await?;
        Ok(self.room.rooms().handle(RoomInfo::clone(self.room.info())))
    }
}

impl Room {
    /// Stores a state that consists of these stored events, in batches that nothing shows. Of two under one type and state key the later one counts.
    pub(crate) async fn put_state_together(&self, events: &[OwnedEventId]) -> Result<NodeId, StageError> {
        let mut root = crate::state::EMPTY;
        for ids in events.chunks(STATE_AT_ONCE) {
            root = self.ask_to_stage(|reply| StageRequest::State { root, ids: ids.to_vec(), reply }).await?;
        }
        Ok(root)
    }

    async fn ask_to_stage<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StageError>>) -> StageRequest,
    ) -> Result<T, StageError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Stage(request(reply));
        let asked: Result<(), Request> = self.rooms().ask(self.info(), request).await;
        asked.map_err(|_| StageError::Unavailable)?;
        answer.await.unwrap_or(Err(StageError::Unavailable))
    }
}
