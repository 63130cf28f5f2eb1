//! What is asked of a local client's member events beyond the rules of the room.

use ruma::UserId;
use serde::Deserialize;
use storage::schema::users::AccountKind;

use crate::{
    context::read_error,
    outgoing::{Outgoing, SendError},
    room::Room,
};

/// Checks an event that is about to be sent, if it is a member event: an invited user, whose server has to sign it, is one of this server's, and
/// guests come only where they are welcome (client-server API, "Guest access").
pub(crate) async fn check(room: &Room, outgoing: &Outgoing) -> Result<(), SendError> {
    let (Some(target), "m.room.member") = (&outgoing.state_key, &*outgoing.event_type) else { return Ok(()) };
    let Ok(target) = <&UserId>::try_from(target.as_str()) else { return Ok(()) };
    let text = |key: &str| outgoing.content.get(key).and_then(|value| value.as_str());
    match text("membership") {
        Some("invite") if !room.context().users.is_local(target) => Err(SendError::RemoteUser),
        Some("join") if target == outgoing.sender && is_guest(room, target).await? => check_welcome(room).await,
        _ => Ok(()),
    }
}

async fn is_guest(room: &Room, user: &UserId) -> Result<bool, SendError> {
    let users = &room.context().users;
    let Some(nid) = users.nid(user).await.map_err(read_error)? else { return Ok(false) };
    Ok(users.account(nid).await.map_err(read_error)?.is_some_and(|account| account.kind == AccountKind::Guest))
}

async fn check_welcome(room: &Room) -> Result<(), SendError> {
    #[derive(Deserialize)]
    struct GuestAccess {
        guest_access: String,
    }
    let event = room.current().await?.event("m.room.guest_access", "").await?;
    let access = event.and_then(|event| event.content_as::<GuestAccess>().ok());
    let welcome = access.is_some_and(|access| access.guest_access == "can_join");
    if welcome { Ok(()) } else { Err(SendError::GuestForbidden) }
}
