//! Knocking at a room that this server is not in (server-server API, "Knocking upon a room").

use federation_client::calls::membership::Making;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId, canonical_json::CanonicalJsonObject,
};
use storage::schema::rooms::Membership;

use super::{
    Remote, RemoteMembershipError,
    from_template::{from_template, version_of},
    join::object,
};
use crate::{Details, RoomVersion, out_of_band, outgoing::SendError, registry::Rooms, stripped};

impl Rooms {
    /// Has a local user ask to be let into a room: here where this server is in it, otherwise through one of the servers of `via` or that are known to be in the room.
    ///
    /// # Errors
    /// The room refuses the user, or no server could be asked: see [`RemoteMembershipError`].
    pub async fn knock(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        details: Details,
    ) -> Result<(), RemoteMembershipError> {
        if let Some(room) = self.serving_room(room_id).await? {
            return Ok(room.knock(user, details).await.map(|_| ())?);
        }
        let Some(remote) = self.remote().cloned() else { return Err(SendError::UnknownRoom.into()) };
        self.check_remote_join(user, room_id).await?;
        let servers = self.candidates(user, room_id, via).await?;
        let content = self.remote_content(user, "knock", details.reason, details.content).await?;
        let (rooms, user, room_id) = (self.clone(), user.to_owned(), room_id.to_owned());
        let knocked = self.on_its_own(async move {
            let mut failure = RemoteMembershipError::NobodyToAsk;
            for server in servers {
                match rooms.knock_by(&remote, &user, &room_id, &server, content.clone()).await {
                    Ok(()) => return Ok(()),
                    Err(error) => failure = failure.or(error),
                }
            }
            Err(failure)
        });
        knocked.await.unwrap_or_else(|| Err(SendError::Unavailable.into()))
    }

    async fn knock_by(
        &self,
        remote: &Remote,
        user: &OwnedUserId,
        room_id: &OwnedRoomId,
        server: &ServerName,
        content: CanonicalJsonObject,
    ) -> Result<(), RemoteMembershipError> {
        let versions: Vec<_> = RoomVersion::supported().map(RoomVersion::as_str).collect();
        let template = remote.client.make_membership(server, Making::Knock, room_id, user, &versions).await?;
        let version = version_of(&template)?;
        let knock = from_template(self.context(), room_id, user, content, &template)?;
        let state = remote.client.send_knock(server, room_id, knock.event_id(), &object(&knock)?).await?;
        // The knock has been made. A room whose state can't be shown is still one that was knocked at.
        let state = stripped::kept(version, room_id, &state).unwrap_or_else(|| b"[]".to_vec());
        let row = out_of_band::row(&knock, Membership::Knock, server.to_owned(), state);
        let Some(nid) = self.context().user_nid(user).await? else { return Ok(()) };
        Ok(self.note_out_of_band(nid, room_id, version, row).await?)
    }
}
