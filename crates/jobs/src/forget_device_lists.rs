//! When the last user of this server has left a room, nobody tells of the devices of those who are there: their lists are forgotten, unless another room is
//! shared with them. Until that is done the room doesn't count as shared, also if somebody comes back meanwhile. What the room's log says of devices goes too:
//! whoever comes back looks at everybody anew.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::{RoomNid, Slot};
use rooms::Rooms;
use ruma::OwnedUserId;
use storage::{
    Direction, Key, KeyRange, Storage, Text,
    schema::{
        jobs::JobKind,
        rooms::{RoomServerSlots, SlotKeys},
    },
};
use users::Users;

use crate::kind::{Kind, Next, StepError};

/// Members that one step looks at.
const MEMBERS: usize = 200;
/// The cursor while the room's log is pruned: no member's.
const PRUNING: &[u8] = &[0];

pub(crate) struct ForgetDeviceLists {
    storage: Storage,
    users: Users,
    rooms: Rooms,
}

impl ForgetDeviceLists {
    pub(crate) fn new(storage: Storage, users: Users, rooms: Rooms) -> Self {
        Self { storage, users, rooms }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((room,)) = <(RoomNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        let after = <(Text, Slot)>::from_bytes(cursor);
        if after.is_none() && self.rooms.prune_device_changes(room, MEMBERS).await? {
            return Ok(Next::More { cursor: PRUNING.to_vec(), pause: Duration::ZERO });
        }
        let range = match after {
            Some((server, Slot(last))) => KeyRange::from(&(room,), &(room, server, Slot(last.saturating_add(1)))),
            None => KeyRange::prefix(&(room,)),
        };
        let view = self.storage.view();
        let page = view.scan_keys::<RoomServerSlots>(&range, MEMBERS, Direction::Forward).await?;
        let last = page.rest.and_then(|_| page.keys.last().map(|(_, server, slot)| (server.clone(), *slot)));
        let slots: Vec<_> = page.keys.into_iter().map(|(_, _, slot)| (room, slot)).collect();
        for key in view.multi_get::<SlotKeys>(&slots).await?.into_iter().flatten() {
            let Ok(user) = OwnedUserId::try_from(key.state_key) else { continue };
            if !self.users.is_local(&user) {
                self.users.keys().forget_unshared_list(&user).await?;
            }
        }
        Ok(Next::after(last.as_ref()))
    }
}

impl Kind for ForgetDeviceLists {
    fn number(&self) -> JobKind {
        JobKind::FORGET_DEVICE_LISTS
    }

    fn name(&self) -> &'static str {
        "forget_device_lists"
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
