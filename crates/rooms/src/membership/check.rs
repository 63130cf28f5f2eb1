//! What is asked of a local client's member events beyond the rules of the room.

use ruma::{OwnedUserId, UserId};
use users::ignoring::{InviteRule, invite_rule};

use super::guests::{check_welcome, is_guest};
use crate::{
    context::Context,
    outgoing::{Outgoing, SendError},
    room::Room,
};

/// Checks an event that is about to be sent, if it is a member event: an invited user of this server takes invites from the sender; guests come only where they are
/// welcome (client-server API, "Guest access").
pub(crate) async fn check(room: &Room, outgoing: &Outgoing) -> Result<(), SendError> {
    let (Some(target), "m.room.member") = (&outgoing.state_key, &*outgoing.event_type) else { return Ok(()) };
    let Ok(target) = <&UserId>::try_from(target.as_str()) else { return Ok(()) };
    let text = |key: &str| outgoing.content.get(key).and_then(|value| value.as_str());
    match text("membership") {
        Some("invite") if !room.context().users.is_local(target) => Ok(()),
        Some("invite") => check_invite(room.context(), &outgoing.sender, target).await,
        Some("join") if target == outgoing.sender && is_guest(room, target).await? => check_welcome(room).await,
        _ => Ok(()),
    }
}

/// Who of another server is invited by an event: that server has to sign it.
pub(crate) fn remote_invitee(context: &Context, outgoing: &Outgoing) -> Option<OwnedUserId> {
    let target = outgoing.state_key.as_deref().filter(|_| outgoing.event_type == "m.room.member")?;
    let target = OwnedUserId::try_from(target).ok()?;
    let is_invite = outgoing.content.get("membership").and_then(|value| value.as_str()) == Some("invite");
    (is_invite && !context.users.is_local(&target)).then_some(target)
}

/// Refuses an invite to a user of this server who takes none from the sender (client-server API, "Invite permission").
pub(crate) async fn check_invite(context: &Context, sender: &UserId, invited: &UserId) -> Result<(), SendError> {
    let Some(user) = context.user_nid(invited).await? else { return Ok(()) };
    match invite_rule(&context.storage.view(), user, sender).await? {
        InviteRule::Block => Err(SendError::InviteBlocked),
        InviteRule::Allow | InviteRule::Ignore => Ok(()),
    }
}
