//! Guests leave a room that has closed to them (client-server API, "Guest access"). The row is written by `rooms`, in the batch that closes the room.

use futures_util::future::BoxFuture;
use primitives::{RoomNid, UserNid};
use rooms::Rooms;
use storage::{Key, schema::jobs::JobKind};

use crate::kind::{Kind, Next, StepError, room, settle};

const NAME: &str = "guests";

pub(crate) struct Guests {
    rooms: Rooms,
    members_per_step: usize,
}

impl Guests {
    pub(crate) fn new(rooms: Rooms, members_per_step: usize) -> Self {
        Self { rooms, members_per_step }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((nid,)) = <(RoomNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        let Some(room) = room(&self.rooms, nid).await? else { return Ok(Next::Done) };
        // Who closed it may have opened it again.
        if settle(NAME, room.is_open_to_guests().await)?.unwrap_or(true) {
            return Ok(Next::Done);
        }
        let after = <(UserNid,)>::from_bytes(cursor).map(|(user,)| user);
        let Some(seen_out) = settle(NAME, room.see_guests_out(after, self.members_per_step).await)? else {
            return Ok(Next::Done);
        };
        for guest in seen_out.guests {
            settle(NAME, guest)?;
        }
        Ok(Next::after(seen_out.last.map(|user| (user,)).as_ref()))
    }
}

impl Kind for Guests {
    fn number(&self) -> JobKind {
        JobKind::GUESTS
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
