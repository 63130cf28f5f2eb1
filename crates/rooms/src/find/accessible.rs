//! Who may know of a room (client-server API, `GET /rooms/{roomId}/hierarchy`).

use primitives::UserNid;
use ruma::OwnedRoomId;
use storage::{
    ReadError,
    schema::rooms::{Membership, Memberships},
};

use super::about::About;
use crate::read::RoomView;

impl RoomView<'_> {
    /// The membership of a local user.
    pub(super) async fn membership_of(&self, user: UserNid) -> Result<Option<Membership>, ReadError> {
        let row = self.view.get::<Memberships>(&(user, self.nid)).await?;
        Ok(row.map(|row| row.value.membership))
    }

    /// Whether the room may be shown to a local user, or without one to everybody: it can be read, or one is in it, or could join or ask to.
    pub(super) async fn is_accessible(&self, user: Option<UserNid>, about: &About) -> Result<bool, ReadError> {
        if about.summary.published.world_readable {
            return Ok(true);
        }
        let membership = match user {
            Some(user) => self.membership_of(user).await?,
            None => None,
        };
        match membership {
            Some(Membership::Join | Membership::Invite) => return Ok(true),
            Some(Membership::Ban) => return Ok(false),
            Some(Membership::Leave | Membership::Knock) | None => {}
        }
        let rules = self.version.authorization();
        let open = match about.summary.published.join_rule.as_str() {
            "public" => true,
            "knock" => rules.knocking,
            "knock_restricted" => rules.knock_restricted_join_rule,
            _ => false,
        };
        match user {
            Some(user) if !open => self.is_in_one_of(user, &about.summary.allowed_room_ids).await,
            _ => Ok(open),
        }
    }

    async fn is_in_one_of(&self, user: UserNid, rooms: &[OwnedRoomId]) -> Result<bool, ReadError> {
        for room_id in rooms {
            let room = Self::by_id(self.view, self.caches, room_id).await?;
            if let Some(room) = room
                && room.membership_of(user).await? == Some(Membership::Join)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
