//! A preview of one room (client-server API, `GET /room_summary/{roomIdOrAlias}`; MSC3266).

use ruma::{OwnedServerName, RoomId};
use serde::Serialize;
use storage::schema::rooms::Membership;

use super::{about::Summary, accessible::is_accessible_elsewhere};
use crate::{
    Rooms,
    read::{ReadRoomError, Reader, Reads},
};

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

impl Rooms {
    /// The summary of a room for a reader, or for everybody. Of a room that nobody here is in, other servers are asked for one who is logged in.
    ///
    /// # Errors
    /// Not found if the reader may not know of the room, or nobody who is asked describes it.
    pub async fn room_summary(
        &self,
        reader: Option<&Reader>,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<SummaryFor, ReadRoomError> {
        let here = self.reads().room_summary(reader, room_id).await;
        let (Err(ReadRoomError::NotFound), Some(reader), Some(elsewhere)) = (&here, reader, self.elsewhere()) else {
            return here;
        };
        let view = self.context().storage.view();
        let reads = self.reads();
        if let Some(room) = reads.room(&view, room_id).await?
            && room.about().await?.is_some_and(|about| about.is_here)
        {
            return here;
        }
        let about = elsewhere.room(room_id, via).await.ok_or(ReadRoomError::NotFound)?;
        if !is_accessible_elsewhere(&view, reads.caches(), reader.user_nid, &about).await? {
            return here;
        }
        let membership = match reads.room(&view, room_id).await? {
            Some(room) => room.membership_of(reader.user_nid).await?,
            None => None,
        };
        let membership = membership.unwrap_or(Membership::Leave).as_str();
        Ok(SummaryFor { summary: about.summary.clone(), membership: Some(membership) })
    }
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
