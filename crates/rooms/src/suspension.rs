//! What a user whose account is suspended may still do in rooms (client-server API, "Account suspension"): leave them, and redact what they
//! sent themselves.

use ruma::{OwnedEventId, UserId};
use storage::schema::rooms::EventHeaders;

use crate::{
    context::{Context, read_error},
    event_key::find_event,
    outgoing::{Outgoing, SendError},
    room::Room,
};

/// Refuses an event of a suspended user, unless it is one of those that are left to them.
pub(crate) async fn check(room: &Room, outgoing: &Outgoing) -> Result<(), SendError> {
    if !is_suspended(room.context(), &outgoing.sender).await? || leaves(outgoing) || redacts_own(room, outgoing).await?
    {
        return Ok(());
    }
    Err(SendError::Suspended)
}

/// Whether a user of this server is suspended.
pub(crate) async fn is_suspended(context: &Context, user: &UserId) -> Result<bool, SendError> {
    let Some(nid) = context.user_nid(user).await? else { return Ok(false) };
    Ok(context.users.is_suspended(nid).await.map_err(read_error)?)
}

fn leaves(outgoing: &Outgoing) -> bool {
    outgoing.event_type == "m.room.member"
        && outgoing.state_key.as_deref() == Some(outgoing.sender.as_str())
        && outgoing.content.get("membership").and_then(|value| value.as_str()) == Some("leave")
}

async fn redacts_own(room: &Room, outgoing: &Outgoing) -> Result<bool, SendError> {
    if outgoing.event_type != "m.room.redaction" {
        return Ok(false);
    }
    let in_content = outgoing.content.get("redacts").and_then(|target| target.as_str());
    let target = outgoing.redacts.clone().or_else(|| in_content.and_then(|id| OwnedEventId::try_from(id).ok()));
    let Some(target) = target else { return Ok(false) };
    let view = room.context().storage.view();
    let Some(rix) = find_event(&view, room.nid(), &target).await? else { return Ok(false) };
    let header = view.get::<EventHeaders>(&(room.nid(), rix)).await?;
    Ok(header.is_some_and(|header| header.value.sender == outgoing.sender.as_str()))
}
