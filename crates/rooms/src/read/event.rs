//! One event (`GET /rooms/{roomId}/event/{eventId}`), for a reader, for a report and for an administrator.

use ruma::{EventId, RoomId};
use storage::{ReadError, schema::rooms::EventIds};

use super::{ReadRoomError, Reader, Reads, RoomView, Shower};
use crate::{
    event_key,
    filter::EventFormat,
    render::{ClientEvent, Unsigned},
    visibility::Standing,
};

impl Reads {
    /// An event. Not found if it is of another room, if the reader may not see it or ignores its sender, or if it was not accepted: all look
    /// the same.
    pub async fn event(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<ClientEvent, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        self.event_of(&room, reader, event_id).await
    }

    /// The same for an event whose room isn't said.
    pub async fn event_by_id(&self, reader: &Reader, event_id: &EventId) -> Result<ClientEvent, ReadRoomError> {
        let view = self.0.storage.view();
        let place = view.get::<EventIds>(&(event_key(event_id),)).await?.ok_or(ReadRoomError::NotFound)?;
        let room = RoomView::by_number(&view, &self.0.caches, place.room).await?.ok_or(ReadRoomError::NotFound)?;
        self.event_of(&room, reader, event_id).await
    }

    async fn event_of(
        &self,
        room: &RoomView<'_>,
        reader: &Reader,
        event_id: &EventId,
    ) -> Result<ClientEvent, ReadRoomError> {
        if room.head().await?.is_none() {
            return Err(ReadRoomError::NotFound);
        }
        let rix = room.find_event(event_id).await?.ok_or(ReadRoomError::NotFound)?;
        let event = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(room, reader, self.0.clock.now()).await?;
        if shower.ignores(&event) || !shower.eyes.sees(&event.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        let shown = shower.show_with_relations(&[event]).await?;
        shown.into_iter().next().ok_or(ReadRoomError::NotFound)
    }

    /// Who sent an event that the reader wants to report. Not found unless the reader is in the room now and may see the event.
    pub async fn reported_sender(
        &self,
        reader: &Reader,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<String, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        let rix = room.find_event(event_id).await?.ok_or(ReadRoomError::NotFound)?;
        let event = room.event(rix).await?.ok_or(ReadRoomError::NotFound)?;
        let mut shower = Shower::open(&room, reader, self.0.clock.now()).await?;
        if shower.eyes.standing() != Standing::Joined || !shower.eyes.sees(&event.header).await? {
            return Err(ReadRoomError::NotFound);
        }
        Ok(event.header.sender.clone())
    }

    /// An event as it was received, whatever has become of it since; none if it isn't stored. For administrators who look at a report: the one
    /// read that asks nobody's visibility.
    pub async fn event_for_administrator(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Option<ClientEvent>, ReadError> {
        let view = self.0.storage.view();
        let Some(room) = self.room(&view, room_id).await? else { return Ok(None) };
        let Some(rix) = room.find_event(event_id).await? else { return Ok(None) };
        let event = room.event(rix).await?;
        let room_id = Some(room.room_id.clone());
        let format = EventFormat::Client;
        Ok(event.map(|event| ClientEvent { event, room_id, unsigned: Unsigned::default(), format, fields: None }))
    }
}
