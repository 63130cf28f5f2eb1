//! The rooms of a user whose devices or cross-signing keys changed are told, so that those who are there look at the keys anew.
//!
//! The job begins in the batch of the change. A newer change begins it anew: the rooms that were told of the first are told again.

use futures_util::future::BoxFuture;
use primitives::UserNid;
use rooms::Rooms;
use storage::{
    Key, Storage,
    schema::{jobs::JobKind, rooms::Membership},
};
use users::Users;

use crate::{
    kind::{Kind, Next, StepError},
    memberships,
};

pub(crate) struct DeviceList {
    storage: Storage,
    users: Users,
    rooms: Rooms,
    rooms_per_step: usize,
}

impl DeviceList {
    pub(crate) fn new(storage: Storage, users: Users, rooms: Rooms, rooms_per_step: usize) -> Self {
        Self { storage, users, rooms, rooms_per_step }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((user,)) = <(UserNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        let Some(user_id) = self.users.user_id(user).await? else { return Ok(Next::Done) };
        let page = memberships::page(&self.storage, user, cursor, self.rooms_per_step).await?;
        // Those who are invited are written to as well.
        let there = |membership| matches!(membership, Membership::Join | Membership::Invite);
        let rooms = page.rooms.into_iter().filter(|(_, membership)| there(*membership));
        let rooms: Vec<_> = rooms.map(|(room, _)| room).collect();
        self.rooms.tell_device_change(&user_id, &rooms).await?;
        Ok(Next::after(page.last.as_ref()))
    }
}

impl Kind for DeviceList {
    fn number(&self) -> JobKind {
        JobKind::DEVICE_LIST
    }

    fn name(&self) -> &'static str {
        "device_list"
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
