//! The rooms that two users are both in (client-server API, `GET /mutual_rooms`).

use ruma::{OwnedRoomId, UserId};
use serde::Serialize;
use storage::{ReadError, schema::rooms::Membership};

use crate::{
    read::{Reader, Reads, RoomView},
    tokens::{BadToken, MutualRoomsToken},
};

/// Rooms of one page.
const LIMIT: usize = 1_000;

/// Why mutual rooms are not told.
#[derive(Debug, thiserror::Error)]
pub enum MutualError {
    /// The other is the reader (`M_INVALID_PARAM`).
    #[error("you share all your rooms with yourself")]
    Oneself,
    /// The token belongs to another request (`M_INVALID_PARAM`).
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

/// A page of the rooms that two users are both in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MutualRooms {
    /// The rooms of this page.
    pub joined: Vec<OwnedRoomId>,
    /// How many there are on all pages.
    pub count: usize,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<MutualRoomsToken>,
}

impl Reads {
    /// The rooms that the reader and another user are in. None if there is no such user.
    pub async fn mutual_rooms(
        &self,
        reader: &Reader,
        other: &UserId,
        from: Option<MutualRoomsToken>,
    ) -> Result<MutualRooms, MutualError> {
        if reader.user_id == other {
            return Err(MutualError::Oneself);
        }
        let hash = self.0.storage.hash();
        let bound_to = u64::from_be_bytes(hash.hash8(&[reader.user_id.as_bytes(), other.as_bytes()]));
        if from.is_some_and(|from| from.bound_to != bound_to) {
            return Err(BadToken.into());
        }
        let view = self.0.storage.view();
        let (mut joined, mut count, mut next_batch) = (Vec::new(), 0, None);
        for nid in self.0.sync.joined_rooms(&view, reader.user_nid).await?.iter() {
            let Some(room) = RoomView::by_number(&view, &self.0.caches, *nid).await? else { continue };
            if !is_in(&room, other).await? {
                continue;
            }
            count += 1;
            if from.is_some_and(|from| *nid < from.next) {
                continue;
            }
            if joined.len() < LIMIT {
                joined.push(room.room_id);
            } else {
                next_batch = next_batch.or(Some(MutualRoomsToken { bound_to, next: *nid }));
            }
        }
        Ok(MutualRooms { joined, count, next_batch })
    }
}

async fn is_in(room: &RoomView<'_>, user: &UserId) -> Result<bool, ReadError> {
    let Some(head) = room.head().await? else { return Ok(false) };
    let slot = room.slot("m.room.member", user.as_str()).await?;
    Ok(room.member_at(head.root, slot).await?.is_some_and(|(_, membership)| membership == Membership::Join))
}
