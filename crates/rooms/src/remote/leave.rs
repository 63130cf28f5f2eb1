//! Leaving: a room that this server is in, or the invite or knock to one that it isn't in (server-server API, "Leaving Rooms (Rejecting Invites)").

use std::collections::BTreeMap;

use federation_client::{
    RemoteError,
    calls::membership::{Making, Template},
};
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId, canonical_json::CanonicalJsonObject,
};
use storage::schema::rooms::{OutOfBand, OutOfBandRow};

use super::{Remote, RemoteMembershipError, from_template::from_template, join::object};
use crate::{
    Details, ForgetError, Pdu, RoomVersion,
    context::Context,
    load::corrupt,
    out_of_band::Turn,
    outgoing::SendError,
    pdu::{BuildInput, build},
    registry::{RoomError, Rooms},
};

/// Servers that are told of a refused invite, one after the other until one takes it.
const ASKED: usize = 3;

impl Rooms {
    /// Takes a local user out of a room: here where the room's own events say that they are in it or asked to it; where only an invite or a knock is known, through the
    /// server that it came from. If no server takes the refusal, the user is rid of the invite all the same.
    ///
    /// # Errors
    /// The room is not known, or refuses: see [`SendError`].
    pub async fn leave(&self, user: &UserId, room_id: &RoomId, details: Details) -> Result<(), SendError> {
        let nid = self.context().user_nid(user).await?;
        let open = match nid {
            Some(nid) => self.open_out_of_band(nid, room_id).await?.map(|(room, row)| (nid, room, row)),
            None => None,
        };
        let Some((nid, room, row)) = open else {
            let room = self.room(room_id).await.map_err(|error| match error {
                RoomError::Unknown => SendError::UnknownRoom,
                RoomError::Storage(error) => SendError::Storage(error),
            })?;
            return room.leave(user, details).await.map(|_| ());
        };
        let (user, room_id) = (user.to_owned(), room_id.to_owned());
        let rooms = self.clone();
        let left = self.on_its_own(async move {
            let leave = match rooms.refuse(&user, &room_id, &row, details.reason.clone()).await {
                Ok(leave) => leave,
                Err(error) => {
                    tracing::info!(%user, %room_id, %error, "no server was told that an invite is refused");
                    own_leave(rooms.context(), &user, &room_id, &row, details.reason)?
                }
            };
            rooms.turn_out_of_band(nid, room, &Turn::Ended(Box::new(leave))).await
        });
        left.await.unwrap_or(Err(SendError::Unavailable))
    }

    /// Forgets a room that a user has left, or to which an invite or knock has ended.
    ///
    /// # Errors
    /// The user is still there, or never was: see [`ForgetError`].
    pub async fn forget(&self, user: &UserId, room_id: &RoomId) -> Result<(), ForgetError> {
        let Some(nid) = self.context().user_nid(user).await? else { return Err(ForgetError::NeverThere) };
        let outside = self.out_of_band(nid, room_id).await?;
        if let Some((room, row)) = &outside {
            if row.value.membership != storage::schema::rooms::Membership::Leave {
                return Err(ForgetError::StillThere);
            }
            self.turn_out_of_band(nid, *room, &Turn::Forgotten).await.map_err(|error| match error {
                SendError::Storage(error) => ForgetError::Storage(error),
                _ => ForgetError::Unavailable,
            })?;
        }
        let known = match self.room(room_id).await {
            Ok(room) => room.forget(user).await,
            Err(RoomError::Unknown) => Err(ForgetError::NeverThere),
            Err(RoomError::Storage(error)) => Err(error.into()),
        };
        match known {
            Err(ForgetError::NeverThere) if outside.is_some() => Ok(()),
            other => other,
        }
    }

    /// Refuses through the first server that takes it; answers with the leave as it was sent.
    async fn refuse(
        &self,
        user: &OwnedUserId,
        room_id: &OwnedRoomId,
        row: &OutOfBandRow,
        reason: Option<String>,
    ) -> Result<Pdu, RemoteMembershipError> {
        let remote = self.remote().ok_or(RemoteMembershipError::NobodyToAsk)?;
        let first: Vec<_> = OwnedServerName::try_from(row.server.as_str()).into_iter().collect();
        let mut failure = RemoteMembershipError::NobodyToAsk;
        for server in self.candidates(user, room_id, &first).await?.into_iter().take(ASKED) {
            match self.refuse_by(remote, user, room_id, row, &server, reason.clone()).await {
                Ok(leave) => return Ok(leave),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    async fn refuse_by(
        &self,
        remote: &Remote,
        user: &UserId,
        room_id: &RoomId,
        row: &OutOfBandRow,
        server: &ServerName,
        reason: Option<String>,
    ) -> Result<Pdu, RemoteMembershipError> {
        let template = remote.client.make_membership(server, Making::Leave, room_id, user, &[]).await?;
        // The room's version is what the invite said: a leave under other rules would be another event.
        if template.room_version.as_ref().is_some_and(|version| *version != row.room_version) {
            return Err(RemoteError::Malformed("the template is of another room version".to_owned()).into());
        }
        let template = Template { room_version: Some(row.room_version.clone()), ..template };
        let leave = from_template(self.context(), room_id, user, content(reason), &template)?;
        remote.client.send_leave(server, room_id, leave.event_id(), &object(&leave)?).await?;
        Ok(leave)
    }
}

fn content(reason: Option<String>) -> CanonicalJsonObject {
    let mut content = CanonicalJsonObject::from([("membership".to_owned(), "leave".into())]);
    content.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
    content
}

/// The leave that the user's own clients are shown where no server takes one: it follows the invite or knock, which is all that is known of the room, and is
/// sent to nobody.
fn own_leave(
    context: &Context,
    user: &UserId,
    room_id: &RoomId,
    row: &OutOfBandRow,
    reason: Option<String>,
) -> Result<Pdu, SendError> {
    let version = RoomVersion::parse(&row.room_version)
        .ok_or_else(|| corrupt::<OutOfBand>(format!("unknown room version {}", row.room_version)))?;
    let asked = Pdu::parse(version, &row.event).map_err(|error| corrupt::<OutOfBand>(error.to_string()))?;
    let prev_events = [asked.event_id().clone()];
    let hashes = BTreeMap::from([(asked.event_id().clone(), asked.reference_hash()?)]);
    let input = BuildInput {
        version,
        room_id: Some(room_id),
        sender: user,
        event_type: "m.room.member",
        state_key: Some(user.as_str()),
        content: content(reason),
        redacts: None,
        prev_events: &prev_events,
        auth_events: &[],
        reference_hashes: version.references_are_pairs().then_some(&hashes),
        depth: asked.depth() + 1,
        origin_server_ts: context.clock.now(),
        extra: Vec::new(),
    };
    Ok(build(input, &context.key, &context.options.server_name)?)
}
