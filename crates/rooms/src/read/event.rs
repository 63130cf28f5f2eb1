//! One event (`GET /rooms/{roomId}/event/{eventId}`).

use ruma::{EventId, RoomId};

use super::{ReadRoomError, Reader, Reads, Shower};
use crate::render::ClientEvent;

impl Reads {
    /// An event. Not found if it is of another room, if the reader may not see it, or if it was not accepted: all look the same.
    pub async fn event(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<ClientEvent, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        if room.head().await?.is_none() {
            return Err(ReadRoomError::NotFound);
        }
        let rix = room.find_event(event_id).await?.ok_or(ReadRoomError::NotFound)?;
        let event = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if !shower.eyes.sees(&event.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        Ok(shower.show(&event).await?)
    }
}
