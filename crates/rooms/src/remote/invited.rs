//! Invites of users of this server, made on another (server-server API, "Inviting to a room"), and their ends.

use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName};
use serde_json::value::RawValue;
use storage::schema::rooms::{Membership, Verdict};
use users::{
    Limit, Status,
    ignoring::{InviteRule, invite_rule},
};

use super::Remote;
use crate::{
    Incoming, Pdu, RoomVersion,
    context::read_error,
    out_of_band::{self, Turn},
    receive::{Received, checked},
    registry::{RoomError, Rooms},
    resident::ResidentError,
    stripped,
};

/// An invite as another server sends it.
#[derive(Debug)]
pub struct IncomingInvite {
    /// The server that sends it.
    pub origin: OwnedServerName,
    /// The room in the request's path.
    pub room_id: OwnedRoomId,
    /// The event id in the request's path.
    pub event_id: OwnedEventId,
    /// The room's version, as the server says.
    pub room_version: String,
    /// The event's JSON.
    pub event: Vec<u8>,
    /// Events by which the room can be recognised.
    pub invite_room_state: Vec<Box<RawValue>>,
}

impl Rooms {
    /// Takes an invite of a user of this server, and gives it back with this server's signature. Done twice, it is done once.
    ///
    /// # Errors
    /// It is no such event (SECURITY 1), or the user or the room takes none: see [`ResidentError`].
    pub async fn receive_invite(&self, invite: IncomingInvite) -> Result<Pdu, ResidentError> {
        let remote = self.remote().ok_or(ResidentError::UnknownRoom)?.clone();
        let version = RoomVersion::parse(&invite.room_version)
            .ok_or_else(|| ResidentError::UnknownVersion(invite.room_version.clone()))?;
        let (pdu, invited) = self.invite_event(&invite, version)?;
        let context = self.context();
        let user = context.user_nid(&invited).await?;
        let account = match user {
            Some(user) => context.users.account(user).await.map_err(read_error)?,
            None => None,
        };
        let (Some(user), Some(Status::Active | Status::Suspended)) = (user, account.map(|account| account.status))
        else {
            return Err(ResidentError::Forbidden("no such user".to_owned()));
        };
        let pdu = checked(context, pdu, &remote).await.map_err(ResidentError::Invalid)?;
        let limited = context.users.limits().check(Limit::InvitesRemote(user));
        limited.map_err(|exceeded| ResidentError::LimitExceeded(exceeded.retry_after))?;
        if invite_rule(&context.storage.view(), user, pdu.sender()).await? == InviteRule::Block {
            return Err(ResidentError::InviteBlocked);
        }
        let signed = pdu.cosigned(&context.key, &context.options.server_name);
        let signed = signed.map_err(|error| ResidentError::Invalid(error.to_string()))?;
        if self.receive_into_room(&invite, &signed, &remote).await? {
            return Ok(signed);
        }
        let Some(state) = stripped::kept(version, &invite.room_id, &invite.invite_room_state) else {
            return Err(ResidentError::Invalid("invite_room_state lacks the room's create event".to_owned()));
        };
        let row = out_of_band::row(&signed, Membership::Invite, invite.origin, state);
        self.note_out_of_band(user, &invite.room_id, version, row).await?;
        Ok(signed)
    }

    /// The event and who is invited, if it is what the request says.
    fn invite_event(&self, invite: &IncomingInvite, version: RoomVersion) -> Result<(Pdu, OwnedUserId), ResidentError> {
        let invalid = |reason: &str| Err(ResidentError::Invalid(reason.to_owned()));
        let pdu = Pdu::parse(version, &invite.event).map_err(|error| ResidentError::Invalid(error.to_string()))?;
        if pdu.room_id() != invite.room_id || *pdu.event_id() != invite.event_id {
            return invalid("the event is another one than the path says");
        }
        if pdu.membership() != Some(Membership::Invite) {
            return invalid("it is no invite");
        }
        if pdu.sender().server_name() != invite.origin {
            return invalid("the event's sender is of another server");
        }
        if !pdu.content_hash_matches() {
            return invalid("the event's content doesn't fit its hash");
        }
        match pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok()) {
            Some(invited) if self.context().users.is_local(&invited) => Ok((pdu, invited)),
            _ => invalid("who is invited is not of this server"),
        }
    }

    /// In a room that this server is in, an invite is an event like any other. What can't be judged yet comes again with a transaction.
    async fn receive_into_room(
        &self,
        invite: &IncomingInvite,
        signed: &Pdu,
        remote: &Remote,
    ) -> Result<bool, ResidentError> {
        let room = match self.room(&invite.room_id).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Ok(false),
            Err(RoomError::Storage(error)) => return Err(error.into()),
        };
        if !room.has_server(&self.options().server_name).await? {
            return Ok(false);
        }
        if !room.allows_server(&invite.origin).await? {
            return Err(ResidentError::Forbidden("the room keeps the server out".to_owned()));
        }
        let received = room.receive(vec![Incoming::new(signed.json().as_bytes())], remote).await?;
        match received.into_iter().next() {
            Some(Received::Stored(_, Verdict::Rejected(reason) | Verdict::SoftFailed(reason))) => {
                Err(ResidentError::Forbidden(reason))
            }
            Some(Received::Invalid(reason)) => Err(ResidentError::Invalid(reason)),
            Some(Received::Stored(..) | Received::Missing(..)) | None => Ok(true),
        }
    }

    /// Takes an event of a room that this server is not in: if it ends the invite or knock of a user of this server, and comes from who may say so, the user is told.
    /// Answers the event's id if it was that.
    pub(super) async fn end_out_of_band(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event: &RawValue,
        remote: &Remote,
    ) -> Result<Option<OwnedEventId>, storage::ReadError> {
        #[derive(serde::Deserialize)]
        struct Member {
            state_key: OwnedUserId,
        }
        let Ok(Member { state_key: user }) = serde_json::from_str(event.get()) else { return Ok(None) };
        let Some(nid) = self.context().user_nid(&user).await? else { return Ok(None) };
        let Some((room, row)) = self.open_out_of_band(nid, room_id).await? else { return Ok(None) };
        let Some(version) = RoomVersion::parse(&row.room_version) else { return Ok(None) };
        let Ok(pdu) = Pdu::parse(version, event.get().as_bytes()) else { return Ok(None) };
        if !out_of_band::ends(&row, &pdu, &user)? || pdu.sender().server_name() != origin {
            return Ok(None);
        }
        let id = pdu.event_id().clone();
        match checked(self.context(), pdu, remote).await {
            Ok(by) => match self.turn_out_of_band(nid, room, &Turn::Ended(Box::new(by))).await {
                Ok(()) => Ok(Some(id)),
                Err(error) => {
                    tracing::warn!(%room_id, %error, "the end of an invite could not be written");
                    Ok(None)
                }
            },
            Err(reason) => {
                tracing::debug!(%room_id, event_id = %id, %reason, "the end of an invite is not properly signed");
                Ok(None)
            }
        }
    }
}
