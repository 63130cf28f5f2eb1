//! The rooms of another server's user whose devices or cross-signing keys changed are told, so that those who are there look at the keys anew.
//!
//! The job begins with what is heard of the list. It ends only a while after the rooms were told: what is heard meanwhile is told together, so that a
//! server that speaks without end makes no more work than one that speaks now and then.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::RoomNid;
use rooms::Rooms;
use ruma::{OwnedUserId, ServerName};
use storage::{
    Direction, Key, KeyRange, Storage, Text,
    schema::jobs::{JobKind, RemoteMembers, RoomServers},
};

use crate::kind::{Kind, Next, StepError};

/// The rooms of a user are told at most this often.
const PAUSE: Duration = Duration::from_secs(1);
/// The cursor of a job whose rooms are told: after the last room that there can be.
const TOLD: (RoomNid,) = (RoomNid(u32::MAX),);

pub(crate) struct RemoteDeviceList {
    storage: Storage,
    rooms: Rooms,
    /// The name of this server.
    own: Text,
    rooms_per_step: usize,
}

impl RemoteDeviceList {
    pub(crate) fn new(storage: Storage, rooms: Rooms, own: &ServerName, rooms_per_step: usize) -> Self {
        Self { storage, rooms, own: Text::new(own.as_str()), rooms_per_step }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((Text(user),)) = <(Text,)>::from_bytes(id) else { return Ok(Next::Done) };
        let Ok(user_id) = OwnedUserId::try_from(user.clone()) else { return Ok(Next::Done) };
        let user = (Text::new(user),);
        let range = match <(RoomNid,)>::from_bytes(cursor) {
            Some(last) if last == TOLD => return Ok(Next::Done),
            Some((RoomNid(last),)) => KeyRange::from(&user, &(user.0.clone(), RoomNid(last.saturating_add(1)))),
            None => KeyRange::prefix(&user),
        };
        let page =
            self.storage.view().scan_keys::<RemoteMembers>(&range, self.rooms_per_step, Direction::Forward).await?;
        let last = page.rest.and_then(|_| page.keys.last().map(|(_, room)| (*room,)));
        // Rooms that nobody of this server is in are told nothing.
        let rooms: Vec<_> = page.keys.into_iter().map(|(_, room)| room).collect();
        let here: Vec<_> = rooms.iter().map(|room| (*room, self.own.clone())).collect();
        let here = self.storage.view().multi_get::<RoomServers>(&here).await?;
        let rooms: Vec<_> = rooms.into_iter().zip(here).filter_map(|(room, here)| here.map(|_| room)).collect();
        self.rooms.tell_device_change(&user_id, &rooms).await?;
        Ok(match last {
            Some(last) => Next::after(Some(&last)),
            None => Next::after(Some(&TOLD)).paused(PAUSE),
        })
    }
}

impl Kind for RemoteDeviceList {
    fn number(&self) -> JobKind {
        JobKind::REMOTE_DEVICE_LIST
    }

    fn name(&self) -> &'static str {
        "remote_device_list"
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
