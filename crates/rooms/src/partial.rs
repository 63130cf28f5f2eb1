//! Rooms whose state is not whole yet, as they were joined with only a part of it (MSC3902, MSC3706).
//!
//! # The invariant
//!
//! *Once the state is whole, the room is what it would be had it been whole from the beginning.* Every event that arrives meanwhile is noted with what the state
//! before it was made of (`PartialEvents`). When the states that were lacking at the join are here, the notes are replayed in the order of arrival, beside the
//! room as clients see it: state, verdict, extremities, current state (`replay.rs`). The batch that replays the last note puts the result in the room's place and
//! says so in its log; no reader sees anything between.
//!
//! Until then a member whom a state doesn't hold is not absent but unknown: events are judged with what their own auth events tell of such members, and readers
//! who need all members wait ([`crate::Reads`]).

mod devices;
mod replay;
mod wait;

use primitives::{RoomNid, StreamPosition};
use ruma::OwnedServerName;
use storage::{
    Direction, KeyRange, Positioned, ReadError, Text, View,
    schema::rooms::{PartialEvent, PartialEvents, PartialNote, PartialNotes, PartialRoom, PartialRooms, PartialStage},
};

use crate::change::Change;

pub(crate) use replay::{PartialRequest, Replayed};

/// The most servers that are remembered of those that are said to be in a room.
const MAX_SERVERS: usize = 10_000;
/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// The state of a room that is not whole, as its worker remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Partial {
    /// The stored row.
    pub(crate) row: PartialRoom,
    /// The position of the join; [`StreamPosition::PENDING`] while that is not stored.
    pub(crate) began: StreamPosition,
    /// The number of the next note.
    pub(crate) next: u32,
}

/// Who said what of a room that is joined with a part of its state.
#[derive(Clone, Debug)]
pub(crate) struct PartialJoin {
    /// The server through which it is joined.
    pub(crate) via: OwnedServerName,
    /// The servers that are in the room, as that server says.
    pub(crate) servers: Vec<OwnedServerName>,
}

/// When the state of a room was not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// The position of the join.
    pub(crate) began: StreamPosition,
    /// The position of the batch that made it whole; `None`: none has.
    pub(crate) whole: Option<StreamPosition>,
    /// The server through which the room was joined.
    pub(crate) via: String,
}

impl Period {
    /// The last one of a room, if it ever was joined with a part of its state.
    pub(crate) async fn of(view: &View, room: RoomNid) -> Result<Option<Self>, ReadError> {
        let row = view.get::<PartialRooms>(&(room,)).await?;
        Ok(row.map(|Positioned { position, value: PartialRoom { via, stage } }| match stage {
            PartialStage::Whole { began } => Self { began, whole: Some(position), via },
            PartialStage::Fetching | PartialStage::Replaying { .. } => Self { began: position, whole: None, via },
        }))
    }

    /// The same if the state still is not whole.
    pub(crate) async fn open(view: &View, room: RoomNid) -> Result<Option<Self>, ReadError> {
        Ok(Self::of(view, room).await?.filter(|period| period.whole.is_none()))
    }

    /// Whether the state was not whole at a position.
    pub(crate) fn covers(&self, position: StreamPosition) -> bool {
        position >= self.began && self.whole.is_none_or(|whole| position < whole)
    }
}

/// The servers that are said to be in a partial room, one after another by name.
pub(crate) async fn noted_servers(view: &View, room: RoomNid) -> Result<Vec<OwnedServerName>, ReadError> {
    let mut servers = Vec::new();
    let mut rest = Some(KeyRange::prefix(&(room, PartialNote::Server)));
    while let Some(range) = rest {
        let page = view.scan_keys::<PartialNotes>(&range, PAGE, Direction::Forward).await?;
        servers.extend(page.keys.into_iter().filter_map(|(_, _, Text(name))| OwnedServerName::try_from(name).ok()));
        rest = page.rest;
    }
    Ok(servers)
}

impl Partial {
    /// That of a room as a view shows it.
    pub(crate) async fn load(view: &View, room: RoomNid) -> Result<Option<Self>, ReadError> {
        let Some(Positioned { position: began, value: row }) = view.get::<PartialRooms>(&(room,)).await? else {
            return Ok(None);
        };
        if matches!(row.stage, PartialStage::Whole { .. }) {
            return Ok(None);
        }
        let last = view.scan_keys::<PartialEvents>(&KeyRange::prefix(&(room,)), 1, Direction::Backward).await?.keys;
        let next = last.first().map_or(0, |(_, number)| number.saturating_add(1));
        Ok(Some(Self { row, began, next }))
    }
}

impl Change {
    /// Whether a member whom a state doesn't hold is unknown rather than absent.
    pub(crate) fn is_partial(&self) -> bool {
        self.memory.partial.is_some() && self.aside.is_none()
    }

    /// Notes an event that arrives while the state is partial, to be judged again.
    pub(crate) fn note_partial(&mut self, event: &PartialEvent) {
        if self.aside.is_some() {
            return;
        }
        if let Some(partial) = &mut self.memory.partial {
            self.batch.put::<PartialEvents>(&(self.memory.info.nid, partial.next), event);
            partial.next += 1;
        }
    }

    /// Begins a time in which the state is partial, or goes on with one: of a room that was left meanwhile. The join's own note says what is lacking.
    pub(crate) fn begin_partial(&mut self, join: &PartialJoin) {
        let room = self.memory.info.nid;
        self.context.activity.meets_others(room);
        let row = PartialRoom { via: join.via.to_string(), stage: PartialStage::Fetching };
        let (began, next) = if let Some(partial) = self.memory.partial.take() {
            (partial.began, partial.next)
        } else {
            self.batch.delete_prefix::<PartialNotes>(&(room,));
            (StreamPosition::PENDING, 0)
        };
        self.batch.put::<PartialRooms>(&(room,), &Positioned { position: began, value: row.clone() });
        for server in join.servers.iter().take(MAX_SERVERS).chain([&join.via]) {
            if *server != self.context.options.server_name {
                self.batch.put::<PartialNotes>(&(room, PartialNote::Server, Text::new(server.as_str())), &());
            }
        }
        self.memory.partial = Some(Partial { row, began, next });
    }
}
