//! Readers who need all members of a room wait until its state is whole.

use std::time::Duration;

use futures_util::future::select;
use ruma::{RoomId, UserId};
use storage::ReadError;

use super::Period;
use crate::{
    local_members,
    outgoing::Outgoing,
    read::{ReadRoomError, Reader, Reads, RoomView},
    registry::Rooms,
    room::Room,
    visibility::{Eyes, Standing},
};

/// Who waits looks now and then without being woken.
const LOOK: Duration = Duration::from_secs(1);
/// The longest that a request waits.
const LONGEST: Duration = Duration::from_mins(5);
/// The longest that an invite, a kick or a ban waits.
const LONGEST_FOR_TARGET: Duration = Duration::from_secs(30);

impl Room {
    /// Waits until it is known what the user is in the room whom somebody else invites, kicks or bans. After a while it is left to the rules, which take who is
    /// unknown for absent.
    pub(crate) async fn until_target_known(&self, outgoing: &Outgoing) -> Result<(), ReadError> {
        let Some(target) = outgoing.state_key.as_deref().filter(|_| outgoing.event_type == "m.room.member") else {
            return Ok(());
        };
        let Ok(target) = <&UserId>::try_from(target) else { return Ok(()) };
        if target == outgoing.sender || !self.is_unknown(target).await? {
            return Ok(());
        }
        let (clock, caches) = (&self.context().clock, &self.context().caches);
        let until = clock.monotonic().saturating_add(LONGEST_FOR_TARGET);
        while clock.monotonic() < until {
            let mut made_whole = Box::pin(caches.made_whole.notified());
            made_whole.as_mut().enable();
            if !self.is_unknown(target).await? {
                return Ok(());
            }
            drop(select(made_whole, clock.sleep(LOOK)).await);
        }
        Ok(())
    }
}

impl Rooms {
    /// Wakes the readers who wait for whole states: one is whole, and what follows from its members has followed.
    pub fn tell_whole(&self) {
        self.context().caches.made_whole.notify_waiters();
    }
}

impl Reads {
    /// Waits until a room's state is whole, if the reader has anything to do with the room. Where nobody of this server is in the room any more, nobody fetches
    /// the state, and what is here is all there is.
    ///
    /// # Errors
    /// It took too long.
    pub(crate) async fn until_whole(&self, reader: &Reader, room_id: &RoomId) -> Result<(), ReadRoomError> {
        let until = self.0.clock.monotonic().saturating_add(LONGEST);
        loop {
            let mut made_whole = Box::pin(self.0.caches.made_whole.notified());
            made_whole.as_mut().enable();
            let view = self.0.storage.view();
            let Some(room) = self.room(&view, room_id).await? else { return Ok(()) };
            if Period::open(&view, room.nid).await?.is_none() || !self.is_fetched(&room).await? {
                return Ok(());
            }
            let eyes = Eyes::open(&room, &reader.user_id, reader.user_nid).await?;
            if eyes.standing() == Standing::Outside {
                return Ok(());
            }
            if self.0.clock.monotonic() >= until {
                return Err(ReadRoomError::Unfinished);
            }
            drop(select(made_whole, self.0.clock.sleep(LOOK)).await);
        }
    }

    /// The same for one entry of the state: only where that is a member's and unknown.
    pub(crate) async fn until_known(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
    ) -> Result<(), ReadRoomError> {
        if event_type != "m.room.member" || state_key == reader.user_id.as_str() {
            return Ok(());
        }
        let view = self.0.storage.view();
        if let Some(room) = self.room(&view, room_id).await?
            && let Some(head) = room.head().await?
            && room.state_at(head.root, event_type, state_key).await?.is_some()
        {
            return Ok(());
        }
        self.until_whole(reader, room_id).await
    }

    async fn is_fetched(&self, room: &RoomView<'_>) -> Result<bool, ReadError> {
        let mut after = None;
        loop {
            let some = local_members::some(room.view, room.nid, after, super::PAGE).await?;
            match (some.joined.is_empty(), some.last) {
                (false, _) => return Ok(true),
                (true, Some(last)) => after = Some(last),
                (true, None) => return Ok(false),
            }
        }
    }
}
