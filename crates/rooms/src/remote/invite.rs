//! Inviting a user of another server (server-server API, "Inviting to a room"): the event is built in the room's worker, signed by both servers outside of it, and comes
//! back as a received one with its riders.

use federation_client::calls::membership::Invite;
use primitives::canonical;
use ruma::{UserId, canonical_json::CanonicalJsonValue};

use super::{
    RemoteMembershipError,
    join::{is_same, object},
};
use crate::{Outgoing, Pdu, RoomVersion, SendError, Sent, room::Room};

impl Room {
    /// Sends an invite to a user of another server, once that server has taken it. A user who is invited already is invited again.
    pub(crate) async fn send_invite(&self, target: &UserId, outgoing: Outgoing) -> Result<Sent, SendError> {
        let remote = self.context().remote.clone().ok_or(SendError::RemoteUser)?;
        let (local, riders, sender) = (outgoing.local.clone(), outgoing.riders, outgoing.sender.clone());
        let built = self.draft(Outgoing { riders: Vec::new(), ..outgoing }).await?;
        let built = self.signed_by_policy(built).await?;
        let mut state = Vec::new();
        for event in self.current().await?.identifying(Some(&sender)).await? {
            let event = canonical::parse_object(event.json().as_bytes());
            state.extend(event.map(CanonicalJsonValue::Object));
        }
        let event = object(&built).map_err(to_send_error)?;
        let version = self.version();
        let invite = Invite { room_version: version.as_str(), event: &event, invite_room_state: state };
        let answer = remote.client.invite(target.server_name(), self.id(), built.event_id(), invite).await?;
        let signed = signed(version, &built, &canonical::to_bytes(&answer))?;
        // Not every server gives back the signatures that it was sent.
        let signed = self.signed_by_policy(signed).await?;
        self.receive_own(signed, local, riders, &remote).await
    }
}

/// The event that came back, if it is the one that was sent.
fn signed(version: RoomVersion, sent: &Pdu, came: &[u8]) -> Result<Pdu, SendError> {
    let malformed = |reason: String| SendError::Remote(federation_client::RemoteError::Malformed(reason));
    let came = Pdu::parse(version, came).map_err(|error| malformed(error.to_string()))?;
    if !is_same(sent, &came) {
        return Err(malformed("the invite is not the one that was sent".to_owned()));
    }
    Ok(came)
}

fn to_send_error(error: RemoteMembershipError) -> SendError {
    match error {
        RemoteMembershipError::Here(error) => error,
        RemoteMembershipError::Remote(error) => error.into(),
        other => SendError::bad(other.to_string()),
    }
}
