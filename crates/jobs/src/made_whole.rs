//! A room's state that was partial is whole: what could not be told meanwhile is told, and what was noted for that goes. Whose devices changed of those who turn out
//! to be in the room, the room hears now.
//!
//! Before that it is waited for the projection that says who shares rooms with whom: what clients do on the news asks it.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::RoomNid;
use rooms::{DeviceChangeError, Rooms};
use ruma::OwnedUserId;
use storage::{
    Batch, Direction, Key, KeyRange, Storage, Text, View,
    schema::{
        jobs::{JobKind, Projected},
        rooms::{PartialNote, PartialNotes, PartialRooms, PartialStage, RoomHeads},
    },
};

use crate::{
    kind::{self, Kind, Next, StepError},
    projections::Members,
};

/// Notes that one step looks at.
const NOTES: usize = 200;
/// Between two looks at a projection that has not caught up.
const PAUSE: Duration = Duration::from_millis(20);
/// How often it is looked at. After that what it says is taken as it is.
const LOOKS: u8 = 200;

pub(crate) struct MadeWhole {
    storage: Storage,
    rooms: Rooms,
}

impl MadeWhole {
    pub(crate) fn new(storage: Storage, rooms: Rooms) -> Self {
        Self { storage, rooms }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((nid,)) = <(RoomNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        let Some(room) = kind::room(&self.rooms, nid).await? else { return Ok(Next::Done) };
        let view = self.storage.view();
        // A new join of the room has begun to note anew.
        let partial = view.get::<PartialRooms>(&(nid,)).await?;
        if partial.is_none_or(|row| !matches!(row.value.stage, PartialStage::Whole { .. })) {
            return Ok(Next::Done);
        }
        let looks = cursor.first().copied().unwrap_or(0);
        if looks < LOOKS && !reflects(&view, nid).await? {
            return Ok(Next::More { cursor: vec![looks + 1], pause: PAUSE });
        }
        if looks < LOOKS {
            // The projection has begun jobs of its own: who has turned out to be in the room is told now. Readers know of the members, and whose devices are followed.
            self.rooms.signals().begin_job();
            self.rooms.tell_whole();
        }
        let page = view.scan_keys::<PartialNotes>(&KeyRange::prefix(&(nid,)), NOTES, Direction::Forward).await?;
        if page.keys.is_empty() {
            return Ok(Next::Done);
        }
        let mut batch = Batch::new();
        for (_, note, Text(name)) in page.keys {
            if note == PartialNote::DeviceChange
                && let Ok(user) = OwnedUserId::try_from(name.as_str())
                && room.has_joined(&user).await?
            {
                self.rooms.tell_device_change(&user, &[nid]).await.map_err(|error| match error {
                    DeviceChangeError::Read(error) => StepError::Read(error),
                    DeviceChangeError::Commit(error) => StepError::Commit(error),
                })?;
            }
            batch.delete::<PartialNotes>(&(nid, note, Text::new(name)));
        }
        self.storage.commit(batch).await?;
        Ok(Next::More { cursor: vec![LOOKS], pause: Duration::ZERO })
    }
}

/// Whether the projection of members has seen the state of a room that is current.
async fn reflects(view: &View, room: RoomNid) -> Result<bool, StepError> {
    let head = view.get::<RoomHeads>(&(room,)).await?;
    let projected = view.get::<Projected>(&(Members::NUMBER, room)).await?;
    Ok(projected.zip(head).is_some_and(|(row, head)| row.towards.is_none() && row.root == head.root))
}

impl Kind for MadeWhole {
    fn number(&self) -> JobKind {
        JobKind::MADE_WHOLE
    }

    fn name(&self) -> &'static str {
        "made_whole"
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
