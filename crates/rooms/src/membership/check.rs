//! What is asked of a local client's member events beyond the rules of the room.

use ruma::UserId;

use super::guests::{check_welcome, is_guest};
use crate::{
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
