//! Whether two users are in a room together, as the policy for profile look-ups asks.

use primitives::UserNid;
use ruma::UserId;
use storage::{ReadError, schema::rooms::Membership};

use super::{Reads, RoomView};

impl Reads {
    /// Whether a local user is in a room that another user, local or not, is in too.
    pub async fn share_a_room(&self, user: UserNid, other: &UserId) -> Result<bool, ReadError> {
        let view = self.0.storage.view();
        for nid in self.0.sync.joined_rooms(&view, user).await?.iter() {
            let Some(room) = RoomView::by_number(&view, &self.0.caches, *nid).await? else { continue };
            let Some(head) = room.head().await? else { continue };
            let slot = room.slot("m.room.member", other.as_str()).await?;
            if matches!(room.member_at(head.root, slot).await?, Some((_, Membership::Join))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
