//! Joining a room that this server is not in, through one that is (server-server API, "Joining Rooms").
//!
//! The join is built here from the other server's template, and what comes back is taken in as if it came from anywhere: events are checked one by one, those
//! that fail are left out, and the join must be allowed by what remains. `staging.rs` makes a room of it.

use std::time::Duration;

use federation_client::{
    RemoteError,
    calls::membership::{JoinedRoom, JoinedRoomParts, Making},
};
use primitives::canonical;
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId, canonical_json::CanonicalJsonObject,
};
use storage::{
    Batch,
    schema::rooms::{EventHeaders, Membership, Verdict},
};
use users::Limit;

use super::{
    Remote, RemoteMembershipError,
    from_template::{from_template, version_of},
    given::{Given, given},
};
use crate::{
    Details, Pdu, RoomVersion,
    event_key::find_event,
    outgoing::SendError,
    partial::PartialJoin,
    receive::{Incoming, Received},
    registry::{RoomError, Rooms},
    room::Room,
    staging::Staging,
    suspension::is_suspended,
};

/// The longest that events of a room wait for a join of it that is under way.
const JOIN_WAIT: Duration = Duration::from_secs(20);
/// Events that are given to a room's worker with one request.
const AT_ONCE: usize = 200;

/// Who wants to be where.
#[derive(Clone, Debug)]
struct Wish {
    user: OwnedUserId,
    room_id: OwnedRoomId,
    content: CanonicalJsonObject,
}

impl Rooms {
    /// Joins a local user to a room: here where this server is in it, and otherwise, or where only other servers may let the user in, through one of the servers of
    /// `via` or that are known to be in the room. Goes on to its end though nobody waits for it.
    ///
    /// # Errors
    /// The room refuses the user, or no server could be asked: see [`RemoteMembershipError`].
    pub async fn join(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        details: Details,
    ) -> Result<(), RemoteMembershipError> {
        let (reason, content) = (details.reason.clone(), details.content.clone());
        match self.serving_room(room_id).await? {
            // Whether the user may join, others know.
            Some(room) if self.remote().is_some() && room.is_unknown(user).await? => {}
            Some(room) => match room.join(user, details).await {
                // Somebody of another server can vouch, if there is another.
                Err(SendError::NobodyVouches) if self.remote().is_some() => {}
                other => return Ok(other.map(|_| ())?),
            },
            None if self.remote().is_none() => return Err(SendError::UnknownRoom.into()),
            None => {}
        }
        self.check_remote_join(user, room_id).await?;
        let servers = self.candidates(user, room_id, via).await?;
        if servers.is_empty() {
            return Err(RemoteMembershipError::NobodyToAsk);
        }
        let content = self.remote_content(user, "join", reason, content).await?;
        let wish = Wish { user: user.to_owned(), room_id: room_id.to_owned(), content };
        let joined = self.on_its_own(self.clone().join_through(wish, servers)).await;
        joined.unwrap_or_else(|| Err(SendError::Unavailable.into()))
    }

    /// Waits until nobody is joining the room through another server, though not for long: what comes for it meanwhile has its room afterwards.
    pub(super) async fn joined_or_not(&self, room_id: &RoomId) {
        let Some(turn) = self.under_way().current(room_id) else { return };
        tokio::select! {
            turn = turn.lock() => drop(turn),
            () = self.context().clock.sleep(JOIN_WAIT) => {}
        }
    }

    /// The room, if this server can speak for it: a user of it is joined, or nobody of another server is.
    pub(super) async fn serving_room(&self, room_id: &RoomId) -> Result<Option<Room>, RemoteMembershipError> {
        let room = match self.room(room_id).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Ok(None),
            Err(RoomError::Storage(error)) => return Err(error.into()),
        };
        let is_here = room.has_server(&self.options().server_name).await?;
        Ok((is_here || room.other_servers(1).await?.is_empty()).then_some(room))
    }

    pub(super) async fn check_remote_join(&self, user: &UserId, room_id: &RoomId) -> Result<(), SendError> {
        if is_suspended(self.context(), user).await? {
            return Err(SendError::Suspended);
        }
        let Some(nid) = self.context().user_nid(user).await? else { return Ok(()) };
        if crate::membership::has_guest_account(self.context(), nid).await? {
            return Err(SendError::GuestForbidden);
        }
        let limits = self.context().users.limits();
        let checked = limits.check(Limit::JoinsRemote(nid)).and_then(|()| limits.check(Limit::JoinsOfRoom(room_id)));
        checked.map_err(|exceeded| SendError::LimitExceeded { retry_after: exceeded.retry_after })
    }

    /// The content of a member event that is sent through another server.
    pub(super) async fn remote_content(
        &self,
        user: &UserId,
        membership: &str,
        reason: Option<String>,
        mut content: CanonicalJsonObject,
    ) -> Result<CanonicalJsonObject, RemoteMembershipError> {
        content.remove(crate::membership::AUTHORISER);
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        content.extend(self.member_content(user, membership).await?);
        Ok(content)
    }

    async fn join_through(self, wish: Wish, servers: Vec<OwnedServerName>) -> Result<(), RemoteMembershipError> {
        let _turn = self.under_way().turn(&wish.room_id).lock_owned().await;
        // Another user's join may have brought the room meanwhile.
        if let Some(room) = self.serving_room(&wish.room_id).await?
            && !room.is_unknown(&wish.user).await?
        {
            let details = Details { content: wish.content.clone(), ..Details::default() };
            match room.join(&wish.user, details).await {
                Err(SendError::NobodyVouches) => {}
                other => return Ok(other.map(|_| ())?),
            }
        }
        let remote = self.remote().ok_or(SendError::UnknownRoom)?.clone();
        let mut failure = RemoteMembershipError::NobodyToAsk;
        for server in servers {
            match self.join_by(&remote, &wish, &server).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::info!(room_id = %wish.room_id, user = %wish.user, %server, %error, "a join through a server failed");
                    let here = matches!(error, RemoteMembershipError::Here(_));
                    failure = failure.or(error);
                    if here {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    async fn join_by(&self, remote: &Remote, wish: &Wish, server: &ServerName) -> Result<(), RemoteMembershipError> {
        let Wish { user, room_id, content } = wish;
        let versions: Vec<_> = RoomVersion::supported().map(RoomVersion::as_str).collect();
        let template = remote.client.make_membership(server, Making::Join, room_id, user, &versions).await?;
        let version = version_of(&template)?;
        let join = from_template(self.context(), room_id, user, content.clone(), &template)?;
        if self.names_ban(user, &join).await? {
            return Err(SendError::forbidden("you are banned from the room").into());
        }
        let event = object(&join)?;
        // Where this server speaks for the room already, the state has to be whole that the join comes with; unless that is being fetched.
        let omit_members = match self.serving_room(room_id).await? {
            Some(room) => room.is_unknown(user).await?,
            None => self.options().partial_state_joins,
        };
        let answer = remote.client.send_join(server, room_id, join.event_id(), &event, omit_members).await?;
        self.take_over(remote, version, join, (&answer, server)).await
    }

    /// Whether a join is said to be authorised by an event that is known here and bans who joins.
    async fn names_ban(&self, user: &UserId, join: &Pdu) -> Result<bool, RemoteMembershipError> {
        let Ok(room) = self.room(join.room_id()).await else { return Ok(false) };
        let view = self.context().storage.view();
        for id in join.auth_events() {
            let Some(rix) = find_event(&view, room.nid(), id).await? else { continue };
            let Some(header) = view.get::<EventHeaders>(&(room.nid(), rix)).await? else { continue };
            let header = header.value;
            if header.membership == Some(Membership::Ban) && header.state_key.as_deref() == Some(user.as_str()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the room that came with a join one of this server's; in a room that this server is in, only takes in the join.
    async fn take_over(
        &self,
        remote: &Remote,
        version: RoomVersion,
        join: Pdu,
        (answer, server): (&JoinedRoom, &ServerName),
    ) -> Result<(), RemoteMembershipError> {
        let parts = answer.read()?;
        let join = signed(version, join, &parts)?;
        let room_id = join.room_id().to_owned();
        if parts.members_omitted && !self.options().partial_state_joins {
            return Err(RemoteMembershipError::Unusable("its state lacks the members".to_owned()));
        }
        let partial = parts.members_omitted.then(|| PartialJoin { via: server.to_owned(), servers: named(&parts) });
        let given = given(version, &room_id, &parts).await?;
        let staging = self.stage(&room_id, version).await?;
        let stored = take_in(&staging, remote, given).await?;
        match self.serving_room(&room_id).await? {
            Some(room) if partial.is_some() => receive_vetted(&room, remote, server, &join).await,
            Some(room) => receive_join(&room, remote, join, stored).await,
            None => begin(staging, remote, join, &stored, partial).await,
        }
    }
}

/// The servers that are said to be in a room.
fn named(parts: &JoinedRoomParts<'_>) -> Vec<OwnedServerName> {
    parts.servers_in_room.iter().filter_map(|name| OwnedServerName::try_from(name.as_str()).ok()).collect()
}

/// Takes in the events of a room that is being put together. Answers which of its state are stored.
pub(super) async fn take_in(
    staging: &Staging,
    remote: &Remote,
    Given { events, state, keys }: Given<'_>,
) -> Result<Vec<ruma::OwnedEventId>, RemoteMembershipError> {
    let room_id = staging.id();
    let keys = keys.fetch(remote, staging.clock()).await;
    let mut stored = Vec::with_capacity(state.len());
    for part in events.chunks(AT_ONCE) {
        let part = part.iter().map(|text| text.as_bytes().to_vec()).collect();
        for received in staging.take_in(part, &keys).await? {
            match received {
                Received::Stored(id, Verdict::Rejected(reason)) => {
                    tracing::debug!(%room_id, event_id = %id, %reason, "an event of a room that is joined is rejected");
                }
                Received::Stored(id, _) if state.contains(&id) => stored.push(id),
                Received::Stored(..) => {}
                Received::Missing(id, _) => {
                    tracing::debug!(%room_id, event_id = %id, "an event of a room that is joined can't be judged");
                }
                Received::Invalid(reason) => {
                    tracing::debug!(%room_id, %reason, "an event of a room that is joined is not valid");
                }
            }
        }
    }
    Ok(stored)
}

async fn begin(
    staging: Staging,
    remote: &Remote,
    join: Pdu,
    state: &[ruma::OwnedEventId],
    partial: Option<PartialJoin>,
) -> Result<(), RemoteMembershipError> {
    let state = staging.state(state).await?;
    staging.begin_with(join.json().as_bytes().to_vec(), state, remote, Batch::new(), partial).await?;
    Ok(())
}

/// Takes in a join that another server had to authorise, in a room that this server is in.
async fn receive_join(
    room: &Room,
    remote: &Remote,
    join: Pdu,
    state: Vec<ruma::OwnedEventId>,
) -> Result<(), RemoteMembershipError> {
    let incoming = Incoming { state_before: Some(state), ..Incoming::new(join.json().as_bytes()) };
    let received = room.receive(vec![incoming], remote).await?;
    match received.into_iter().next() {
        Some(Received::Stored(_, Verdict::Accepted)) => Ok(()),
        other => Err(RemoteMembershipError::Unusable(format!("the join is not good here: {other:?}"))),
    }
}

/// Takes in a join that another server has let in, in a room the state of which is being fetched: what it follows is known here, or is fetched.
async fn receive_vetted(
    room: &Room,
    remote: &Remote,
    server: &ServerName,
    join: &Pdu,
) -> Result<(), RemoteMembershipError> {
    let prepared = room.prepare(Incoming::new(join.json().as_bytes()), remote).await;
    let prepared = prepared.map_err(RemoteMembershipError::Unusable)?;
    match room.receive_with_missing(remote, server, vec![prepared]).await?.into_iter().next() {
        Some(Received::Stored(_, Verdict::Accepted)) => Ok(()),
        other => Err(RemoteMembershipError::Unusable(format!("the join is not good here: {other:?}"))),
    }
}

/// The join as the other server has signed it, if it did and it is the same event; otherwise as it was sent.
fn signed(version: RoomVersion, sent: Pdu, parts: &JoinedRoomParts<'_>) -> Result<Pdu, RemoteMembershipError> {
    let Some(event) = parts.event else { return Ok(sent) };
    let malformed = |reason: String| RemoteError::Malformed(reason);
    let came = Pdu::parse(version, event.get().as_bytes()).map_err(|error| malformed(error.to_string()))?;
    if !is_same(&sent, &came) {
        return Err(malformed("the join is not the one that was sent".to_owned()).into());
    }
    Ok(came)
}

/// Whether two texts are one event, but for signatures.
pub(super) fn is_same(sent: &Pdu, came: &Pdu) -> bool {
    let hash = |pdu: &Pdu| pdu.reference_hash().ok();
    sent.event_id() == came.event_id() && hash(sent) == hash(came) && came.content_hash_matches()
}

/// An event as a JSON object.
pub(super) fn object(pdu: &Pdu) -> Result<CanonicalJsonObject, RemoteMembershipError> {
    let parsed = canonical::parse_object(pdu.json().as_bytes());
    parsed.map_err(|error| RemoteError::Malformed(error.to_string()).into())
}
