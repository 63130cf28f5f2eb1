//! A room that was replaced is closed (client-server API, "Room Upgrades"). The upgrade does it itself if nothing stops it; `rooms` writes the row, in the batch
//! of the tombstone.

use futures_util::future::BoxFuture;
use primitives::{RoomNid, UserNid};
use rooms::Rooms;
use storage::{Key, schema::jobs::JobKind};

use crate::kind::{Kind, Next, StepError, room, settle};

const NAME: &str = "close_replaced";

pub(crate) struct CloseReplaced {
    rooms: Rooms,
}

impl CloseReplaced {
    pub(crate) fn new(rooms: Rooms) -> Self {
        Self { rooms }
    }

    async fn next(&self, id: &[u8]) -> Result<Next, StepError> {
        let Some((nid, user)) = <(RoomNid, UserNid)>::from_bytes(id) else { return Ok(Next::Done) };
        if let Some(old) = room(&self.rooms, nid).await? {
            settle(NAME, old.close_replaced(user).await)?;
        }
        Ok(Next::Done)
    }
}

impl Kind for CloseReplaced {
    fn number(&self) -> JobKind {
        JobKind::CLOSE_REPLACED
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn step<'a>(&'a self, id: &'a [u8], _cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id))
    }
}
