//! Guests of this server (client-server API, "Guest access"): they come only where they are welcome, and go when they no longer are.

use primitives::UserNid;
use ruma::UserId;
use serde::Deserialize;
use storage::schema::users::AccountKind;

use super::Details;
use crate::{
    Pdu,
    context::{Context, read_error},
    local_members::{self, SomeJoined},
    outgoing::{SendError, Sent},
    room::Room,
};

pub(super) async fn is_guest(room: &Room, user: &UserId) -> Result<bool, SendError> {
    match room.context().users.nid(user).await.map_err(read_error)? {
        Some(nid) => has_guest_account(room.context(), nid).await,
        None => Ok(false),
    }
}

pub(crate) async fn has_guest_account(context: &Context, user: UserNid) -> Result<bool, SendError> {
    let account = context.users.account(user).await.map_err(read_error)?;
    Ok(account.is_some_and(|account| account.kind == AccountKind::Guest))
}

/// Whether an `m.room.guest_access` event lets guests in.
pub(crate) fn lets_guests_in(event: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct GuestAccess {
        guest_access: String,
    }
    event.content_as::<GuestAccess>().is_ok_and(|content| content.guest_access == "can_join")
}

pub(super) async fn check_welcome(room: &Room) -> Result<(), SendError> {
    if room.is_open_to_guests().await? { Ok(()) } else { Err(SendError::GuestForbidden) }
}

impl Room {
    /// Whether guests may join as the room's state stands.
    pub async fn is_open_to_guests(&self) -> Result<bool, SendError> {
        let event = self.current().await?.event("m.room.guest_access", "").await?;
        Ok(event.is_some_and(|event| lets_guests_in(&event)))
    }

    /// Makes the guests among the next local members leave: those after a user by number, at most `limit` members. Answers with the last member
    /// looked at, if there may be more, and what became of each guest.
    pub async fn see_guests_out(&self, after: Option<UserNid>, limit: usize) -> Result<SeenOut, SendError> {
        let SomeJoined { joined, last } =
            local_members::some(&self.context().storage.view(), self.nid(), after, limit).await?;
        let mut guests = Vec::new();
        for nid in joined {
            if has_guest_account(self.context(), nid).await?
                && let Some(guest) = self.context().users.user_id(nid).await.map_err(read_error)?
            {
                guests.push(self.leave(&guest, Details::default()).await);
            }
        }
        Ok(SeenOut { last, guests })
    }
}

/// How far the guests of a room are seen out.
#[derive(Debug)]
pub struct SeenOut {
    /// The last member looked at; `None`: there are no more.
    pub last: Option<UserNid>,
    /// What became of each guest among them.
    pub guests: Vec<Result<Sent, SendError>>,
}
