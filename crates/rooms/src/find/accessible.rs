//! Who may know of a room (client-server API, `GET /rooms/{roomId}/hierarchy`).

use primitives::UserNid;
use ruma::{OwnedRoomId, ServerName};
use storage::{
    ReadError, View,
    schema::rooms::{Membership, Memberships, OutOfBand},
};

use super::about::{About, Summary};
use crate::{
    RoomVersion,
    read::{Caches, RoomView},
    visibility::{ServerEyes, ServerStanding},
};

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
        let open = is_open(&about.summary);
        match user {
            Some(user) if !open => is_in_one_of(self.view, self.caches, user, &about.summary.allowed_room_ids).await,
            _ => Ok(open),
        }
    }

    /// Whether the room may be shown to another server: it can be read, or a user of the server is in it, is asked in, or could join or ask to.
    pub(super) async fn is_accessible_to_server(&self, server: &ServerName, about: &About) -> Result<bool, ReadError> {
        if about.summary.published.world_readable || is_open(&about.summary) {
            return Ok(true);
        }
        let joined_or_invited = [Membership::Join, Membership::Invite];
        if self.membership_of_server(server).await?.is_some_and(|membership| joined_or_invited.contains(&membership)) {
            return Ok(true);
        }
        for room_id in &about.summary.allowed_room_ids {
            let room = Self::by_id(self.view, self.caches, room_id).await?;
            if let Some(room) = room
                && room.membership_of_server(server).await? == Some(Membership::Join)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn membership_of_server(&self, server: &ServerName) -> Result<Option<Membership>, ReadError> {
        let Some(head) = self.head().await? else { return Ok(None) };
        ServerEyes::new(self, server, ServerStanding::Outside).membership(head.root).await
    }
}

/// Whether a room that nobody here is in may be shown to a local user, as its description says.
pub(super) async fn is_accessible_elsewhere(
    view: &View,
    caches: &Caches,
    user: UserNid,
    about: &About,
) -> Result<bool, ReadError> {
    if about.summary.published.world_readable || is_open(&about.summary) {
        return Ok(true);
    }
    if let Some(room) = RoomView::by_id(view, caches, &about.summary.published.room_id).await? {
        let invited = view.get::<OutOfBand>(&(user, room.nid)).await?.map(|row| row.value.membership);
        let joined = room.membership_of(user).await?;
        if [invited, joined].into_iter().flatten().any(|membership| membership == Membership::Invite) {
            return Ok(true);
        }
    }
    is_in_one_of(view, caches, user, &about.summary.allowed_room_ids).await
}

/// Whether everybody could join the room, or ask to.
fn is_open(summary: &Summary) -> bool {
    let rules = summary.room_version.and_then(RoomVersion::parse).map(RoomVersion::authorization);
    match summary.published.join_rule.as_str() {
        "public" => true,
        "knock" => rules.is_none_or(|rules| rules.knocking),
        "knock_restricted" => rules.is_none_or(|rules| rules.knock_restricted_join_rule),
        _ => false,
    }
}

async fn is_in_one_of(view: &View, caches: &Caches, user: UserNid, rooms: &[OwnedRoomId]) -> Result<bool, ReadError> {
    for room_id in rooms {
        let room = RoomView::by_id(view, caches, room_id).await?;
        if let Some(room) = room
            && room.membership_of(user).await? == Some(Membership::Join)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
