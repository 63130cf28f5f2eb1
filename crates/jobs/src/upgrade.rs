//! Members of a room that replaces another get what they had set for the old one (client-server API, "Room Upgrades"). The row is written by
//! `rooms`, in the batch of the join or the tombstone.

use futures_util::future::BoxFuture;
use primitives::{RoomNid, UserNid};
use rooms::Rooms;
use storage::{
    Key,
    schema::jobs::{EVERYBODY, JobKind},
};

use crate::kind::{Kind, Next, StepError, room, settle};

const NAME: &str = "upgrade";

pub(crate) struct Upgrades {
    rooms: Rooms,
    members_per_step: usize,
}

impl Upgrades {
    pub(crate) fn new(rooms: Rooms, members_per_step: usize) -> Self {
        Self { rooms, members_per_step }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((nid, user)) = <(RoomNid, UserNid)>::from_bytes(id) else { return Ok(Next::Done) };
        let Some(new) = room(&self.rooms, nid).await? else { return Ok(Next::Done) };
        let Some(old) = settle(NAME, new.predecessor().await)?.flatten() else { return Ok(Next::Done) };
        if user != EVERYBODY {
            new.give_settings(&old, user).await?;
            return Ok(Next::Done);
        }
        let after = <(UserNid,)>::from_bytes(cursor).map(|(user,)| user);
        let last = new.give_members_settings(&old, after, self.members_per_step).await?;
        Ok(Next::after(last.map(|user| (user,)).as_ref()))
    }
}

impl Kind for Upgrades {
    fn number(&self) -> JobKind {
        JobKind::UPGRADE
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
