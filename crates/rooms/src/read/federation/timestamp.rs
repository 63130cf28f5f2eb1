//! The event closest to a time, for other servers.

use super::{ServeError, ServedRoom};
use crate::{
    read::{EventAtTime, PageDirection, ReadRoomError, messages::END, timestamp},
    visibility::ServerEyes,
};

impl ServedRoom {
    /// The event that is closest to a time in a direction, of those that the server sees (`GET /timestamp_to_event/{roomId}`).
    ///
    /// # Errors
    /// Not found.
    pub async fn event_at_time(&self, ts: u64, direction: PageDirection) -> Result<EventAtTime, ServeError> {
        let room = self.room_view().await?;
        let mut eyes = ServerEyes::new(&room, &self.server, self.standing);
        let found = timestamp::find(&room, &mut eyes, END, ts, direction).await;
        found.map_err(|error| match error {
            ReadRoomError::Storage(error) => ServeError::Storage(error),
            _ => ServeError::NotFound,
        })
    }
}
