//! Restricted joins (room version 8 and later): who has joined one of some other rooms may join, if a member who could invite vouches.

use ruma::{OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use storage::{
    Direction, KeyRange, ReadError,
    schema::rooms::{LocalMembers, Membership, Memberships},
};

use crate::{
    current::Current,
    outgoing::SendError,
    power::{Action, Powers},
    registry::RoomError,
    room::Room,
};

/// Rooms of one join rule that are looked at.
const MAX_ALLOWED_ROOMS: usize = 100;
/// Local members that are looked at for one who may invite, when everybody may.
const MAX_MEMBERS: usize = 1_000;

/// The content of `m.room.join_rules`.
#[derive(Deserialize)]
pub(crate) struct JoinRules {
    pub(crate) join_rule: String,
    #[serde(default)]
    allow: Vec<serde_json::Value>,
}

/// What holds without the event.
impl Default for JoinRules {
    fn default() -> Self {
        Self { join_rule: "invite".to_owned(), allow: Vec::new() }
    }
}

/// Why nobody vouches for a user who wants to join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotVouched {
    /// The user is in none of the rooms.
    #[error("the user is in none of the rooms whose members may join")]
    NotAMember,
    /// This server isn't in enough of the rooms to say (`M_UNABLE_TO_AUTHORISE_JOIN`).
    #[error("this server cannot tell whether the user is in one of the rooms whose members may join")]
    CannotTell,
    /// No member of this server may invite (`M_UNABLE_TO_GRANT_JOIN`).
    #[error("nobody on this server may let users in")]
    Nobody,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<NotVouched> for SendError {
    fn from(error: NotVouched) -> Self {
        match error {
            NotVouched::Storage(error) => Self::Storage(error),
            NotVouched::NotAMember | NotVouched::CannotTell => Self::forbidden(error.to_string()),
            NotVouched::Nobody => Self::NobodyVouches,
        }
    }
}

impl JoinRules {
    /// The rooms of which a member may join; none if the rule is not one of the restricted ones.
    pub(crate) fn rooms(&self) -> Option<impl Iterator<Item = &RoomId>> {
        let rooms = self.allow.iter().filter(|allow| allow["type"] == "m.room_membership");
        let rooms = rooms.filter_map(|allow| <&RoomId>::try_from(allow["room_id"].as_str()?).ok());
        matches!(self.join_rule.as_str(), "restricted" | "knock_restricted").then_some(rooms.take(MAX_ALLOWED_ROOMS))
    }
}

impl Room {
    /// The member who vouches for a user, of this server or another, who is not invited; `None` if the room's rule asks for nobody. Refused if the
    /// rule asks and the user is in none of the rooms, or nobody here may vouch.
    pub(crate) async fn authoriser(
        &self,
        current: &Current<'_>,
        user: &UserId,
    ) -> Result<Option<OwnedUserId>, NotVouched> {
        if !self.version().authorization().restricted_join_rule {
            return Ok(None);
        }
        let rules =
            current.event("m.room.join_rules", "").await?.and_then(|event| event.content_as::<JoinRules>().ok());
        let Some(rules) = rules else { return Ok(None) };
        let Some(rooms) = rules.rooms() else { return Ok(None) };
        let mut unknown = false;
        for room in rooms {
            match self.is_in(user, room).await? {
                Some(true) => return self.who_may_invite(current).await?.map(Some).ok_or(NotVouched::Nobody),
                Some(false) => {}
                None => unknown = true,
            }
        }
        Err(if unknown { NotVouched::CannotTell } else { NotVouched::NotAMember })
    }

    /// Whether a user has joined another room; `None` if only servers that are in it know.
    async fn is_in(&self, user: &UserId, room: &RoomId) -> Result<Option<bool>, ReadError> {
        let is_local = self.context().users.is_local(user);
        let room = match self.rooms().room(room).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Ok(is_local.then_some(false)),
            Err(RoomError::Storage(error)) => return Err(error),
        };
        if !is_local {
            let Some(current) = Current::read(room.context(), room.info()).await? else { return Ok(None) };
            let here = current.has_server(&self.context().options.server_name).await?;
            let is_in = current.membership(user).await? == Some(Membership::Join);
            return Ok(here.then_some(is_in));
        }
        let Some(nid) = self.context().user_nid(user).await? else { return Ok(Some(false)) };
        let row = self.context().storage.view().get::<Memberships>(&(nid, room.nid())).await?;
        Ok(Some(row.is_some_and(|row| row.value.membership == Membership::Join)))
    }

    /// A local user who has joined and may invite.
    async fn who_may_invite(&self, current: &Current<'_>) -> Result<Option<OwnedUserId>, ReadError> {
        let Some(powers) = current.powers().await? else { return Ok(None) };
        for user in powers.named().into_iter().filter(|user| self.may_vouch(&powers, user)) {
            if current.membership(&user).await? == Some(Membership::Join) {
                return Ok(Some(user));
            }
        }
        self.any_member(current, &powers).await
    }

    fn may_vouch(&self, powers: &Powers, user: &UserId) -> bool {
        self.context().users.is_local(user) && powers.may(user, Action::Invite)
    }

    /// Somebody whom the power levels don't name: where everybody may invite.
    async fn any_member(&self, current: &Current<'_>, powers: &Powers) -> Result<Option<OwnedUserId>, ReadError> {
        let range = KeyRange::prefix(&(self.nid(),));
        let page = current.view().scan::<LocalMembers>(&range, MAX_MEMBERS, Direction::Forward).await?;
        for ((_, nid), _) in page.rows.into_iter().filter(|(_, membership)| *membership == Membership::Join) {
            let user = self.context().users.user_id(nid).await.map_err(crate::context::read_error)?;
            if let Some(user) = user.filter(|user| self.may_vouch(powers, user)) {
                return Ok(Some(user));
            }
        }
        Ok(None)
    }
}
