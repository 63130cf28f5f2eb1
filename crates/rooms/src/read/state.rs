//! The state of a room (`GET /rooms/{roomId}/state` and below).

use ruma::RoomId;

use super::{Access, ReadRoomError, Reader, Reads, Shower};
use crate::render::ClientEvent;

impl Reads {
    /// All of a room's state: as it is for members and in world-readable rooms, as it was when they left for those who left.
    pub async fn state(&self, reader: &Reader, room_id: &RoomId) -> Result<Vec<ClientEvent>, ReadRoomError> {
        self.until_whole(reader, room_id).await?;
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let root = Access::of(&room.open_head().await?, &mut shower.eyes).await?.root();
        let mut entries = room.others(root).await?;
        entries.extend(room.members(root, |_| true).await?);
        Ok(shower.show_all(entries.into_iter().map(|(_, entry)| entry.rix).collect()).await?)
    }

    /// One state event, by the same rules. `GET …/state/{eventType}/{stateKey}` answers with its content, `event.content()`, or with
    /// `format=event` with all of it. Not found if the room has no such state.
    pub async fn state_event(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
    ) -> Result<ClientEvent, ReadRoomError> {
        self.until_known(reader, room_id, event_type, state_key).await?;
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::Forbidden)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        let root = Access::of(&room.open_head().await?, &mut shower.eyes).await?.root();
        let rix = room.state_at(root, event_type, state_key).await?.ok_or(ReadRoomError::NotFound)?;
        let event = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
        Ok(shower.show(&event).await?)
    }
}
