//! Guests of this server (client-server API, "Guest access"): they come only where they are welcome, and go when they no longer are.

use primitives::UserNid;
use ruma::UserId;
use serde::Deserialize;
use storage::{
    Direction, KeyRange,
    schema::{
        rooms::{LocalMembers, Membership},
        users::AccountKind,
    },
};

use super::Details;
use crate::{
    context::read_error,
    outgoing::{Outgoing, SendError},
    room::Room,
};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

pub(super) async fn is_guest(room: &Room, user: &UserId) -> Result<bool, SendError> {
    match room.context().users.nid(user).await.map_err(read_error)? {
        Some(nid) => has_guest_account(room, nid).await,
        None => Ok(false),
    }
}

async fn has_guest_account(room: &Room, user: UserNid) -> Result<bool, SendError> {
    let account = room.context().users.account(user).await.map_err(read_error)?;
    Ok(account.is_some_and(|account| account.kind == AccountKind::Guest))
}

pub(super) async fn check_welcome(room: &Room) -> Result<(), SendError> {
    #[derive(Deserialize)]
    struct GuestAccess {
        guest_access: String,
    }
    let event = room.current().await?.event("m.room.guest_access", "").await?;
    let access = event.and_then(|event| event.content_as::<GuestAccess>().ok());
    let welcome = access.is_some_and(|access| access.guest_access == "can_join");
    if welcome { Ok(()) } else { Err(SendError::GuestForbidden) }
}

/// Whether an event closes its room to guests.
pub(crate) fn closes(outgoing: &Outgoing) -> bool {
    let access = outgoing.content.get("guest_access").and_then(|access| access.as_str());
    outgoing.event_type == "m.room.guest_access"
        && outgoing.state_key.as_deref() == Some("")
        && access != Some("can_join")
}

/// Makes every guest of this server leave a room that is closed to guests now. One who can't be made to is logged and stays.
pub(crate) async fn see_out(room: &Room) -> Result<(), SendError> {
    let mut rest = Some(KeyRange::prefix(&(room.nid(),)));
    while let Some(range) = rest {
        let page = room.context().storage.view().scan::<LocalMembers>(&range, PAGE, Direction::Forward).await?;
        rest = page.rest;
        for ((_, nid), _) in page.rows.into_iter().filter(|(_, membership)| *membership == Membership::Join) {
            if !has_guest_account(room, nid).await? {
                continue;
            }
            let Some(guest) = room.context().users.user_id(nid).await.map_err(read_error)? else { continue };
            if let Err(error) = room.leave(&guest, Details::default()).await {
                tracing::warn!(%error, room_id = %room.id(), "a guest stays in a room that is closed to guests");
            }
        }
    }
    Ok(())
}
