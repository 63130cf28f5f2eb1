//! A preview of one room (client-server API, `GET /room_summary/{roomIdOrAlias}`; MSC3266).

use ruma::RoomId;
use serde::Serialize;
use storage::schema::rooms::Membership;

use super::about::Summary;
use crate::read::{ReadRoomError, Reader, Reads};

/// What one reader is shown of a room.
#[derive(Clone, Debug, Serialize)]
pub struct SummaryFor {
    /// What everybody is shown.
    #[serde(flatten)]
    pub summary: Summary,
    /// The reader's membership, `leave` if there is none; absent if nobody in particular asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<&'static str>,
}

impl Reads {
    /// The summary of a room for a reader, or for everybody. Not found if they may not know of the room, or nobody here is in it.
    pub async fn room_summary(&self, reader: Option<&Reader>, room_id: &RoomId) -> Result<SummaryFor, ReadRoomError> {
        let view = self.0.storage.view();
        let room = self.room(&view, room_id).await?.ok_or(ReadRoomError::NotFound)?;
        let about = room.about().await?.filter(|about| about.is_here).ok_or(ReadRoomError::NotFound)?;
        let user = reader.map(|reader| reader.user_nid);
        if !room.is_accessible(user, &about).await? {
            return Err(ReadRoomError::NotFound);
        }
        let membership = match user {
            Some(user) => Some(room.membership_of(user).await?.unwrap_or(Membership::Leave).as_str()),
            None => None,
        };
        Ok(SummaryFor { summary: about.summary.clone(), membership })
    }
}
