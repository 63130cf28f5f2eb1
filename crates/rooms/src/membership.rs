//! Coming into a room and going out of it (client-server API, "Room membership"). All of it ends in [`Room::send`].

mod check;
mod forget;
mod guests;
mod profile;
mod restricted;

use ruma::{UserId, canonical_json::CanonicalJsonObject};
use storage::{
    ReadError,
    schema::rooms::{EventLocal, Membership},
};
use users::Limit;

pub(crate) use check::{check, check_invite, remote_invitee};
pub use forget::ForgetError;
pub use guests::SeenOut;
pub(crate) use guests::{has_guest_account, lets_guests_in};
pub use profile::FIELDS as PROFILE_FIELDS;
pub(crate) use restricted::{JoinRules, NotVouched};

use crate::{
    context::read_error,
    current::Current,
    load::StoredEvent,
    outgoing::{Outgoing, Rider, SendError, Sent},
    registry::Rooms,
    room::Room,
};

/// The content field of a join that names the member who vouches for it (specification, "Restricted rooms").
pub(crate) const AUTHORISER: &str = "join_authorised_via_users_server";

/// What goes with a change of membership.
#[derive(Debug, Default)]
pub struct Details {
    /// Why, in the user's words.
    pub reason: Option<String>,
    /// Further content of the member event. What the server says itself wins.
    pub content: CanonicalJsonObject,
    /// What only this server knows of the event.
    pub local: EventLocal,
    /// What joins its batch.
    pub riders: Vec<Rider>,
}

impl Room {
    /// Joins a local user. One who has joined already stays, and gets the id of the event that is there.
    pub async fn join(&self, user: &UserId, details: Details) -> Result<Sent, SendError> {
        let current = self.current().await?;
        let member = current.member(user).await?;
        let membership = member.as_ref().and_then(|event| event.header.membership);
        if let (Some(event), Some(Membership::Join), true) = (&member, membership, details.content.is_empty()) {
            return Ok(sent_before(event));
        }
        self.check_join_limits(user).await?;
        drop(current);
        let content = self.rooms().member_content(user, "join").await?;
        self.send_member(user, user, content, details).await
    }

    /// Takes a local user out: leaves, refuses an invitation, or withdraws a knock. One who has left already gets the id of the event that is
    /// there.
    pub async fn leave(&self, user: &UserId, details: Details) -> Result<Sent, SendError> {
        let member = self.current().await?.member(user).await?;
        if let Some(event) = member.filter(|event| event.header.membership == Some(Membership::Leave)) {
            return Ok(sent_before(&event));
        }
        self.send_member(user, user, membership("leave"), details).await
    }

    /// Invites a user. With `is_direct`, the invitation says that it is to a direct chat.
    pub async fn invite(&self, sender: &UserId, target: &UserId, details: Details) -> Result<Sent, SendError> {
        let content = self.rooms().member_content(target, "invite").await?;
        self.send_member(sender, target, content, details).await
    }

    /// Takes another user out who has joined, is invited or has knocked.
    pub async fn kick(&self, sender: &UserId, target: &UserId, details: Details) -> Result<Sent, SendError> {
        let present = [Membership::Join, Membership::Invite, Membership::Knock];
        match self.current().await?.membership(target).await? {
            Some(membership) if present.contains(&membership) => {}
            _ => return Err(SendError::forbidden("the user is not in the room")),
        }
        self.send_member(sender, target, membership("leave"), details).await
    }

    /// Bans a user, who need not be in the room.
    pub async fn ban(&self, sender: &UserId, target: &UserId, details: Details) -> Result<Sent, SendError> {
        self.send_member(sender, target, membership("ban"), details).await
    }

    /// Lifts a user's ban.
    pub async fn unban(&self, sender: &UserId, target: &UserId, details: Details) -> Result<Sent, SendError> {
        if self.current().await?.membership(target).await? != Some(Membership::Ban) {
            return Err(SendError::forbidden("the user is not banned"));
        }
        self.send_member(sender, target, membership("leave"), details).await
    }

    /// Asks to be let in. One who has knocked already and says nothing new gets the id of the event that is there.
    pub async fn knock(&self, user: &UserId, details: Details) -> Result<Sent, SendError> {
        self.check_join_limits(user).await?;
        let content = self.rooms().member_content(user, "knock").await?;
        self.send_member(user, user, content, details).await
    }

    /// Puts into an own join who vouches for it, if the room's rule asks for somebody. What a client wrote there counts for nothing: with the
    /// name of a member who could vouch, anybody of this server would be let in.
    pub(crate) async fn vouch(&self, outgoing: &mut Outgoing) -> Result<(), SendError> {
        if outgoing.event_type != "m.room.member" {
            return Ok(());
        }
        outgoing.content.remove(AUTHORISER);
        let is_join = outgoing.content.get("membership").and_then(|value| value.as_str()) == Some("join");
        if !is_join || outgoing.state_key.as_deref() != Some(outgoing.sender.as_str()) {
            return Ok(());
        }
        let current = self.current().await?;
        if matches!(
            current.membership(&outgoing.sender).await?,
            Some(Membership::Join | Membership::Invite | Membership::Ban)
        ) {
            return Ok(());
        }
        if let Some(authoriser) = self.authoriser(&current, &outgoing.sender).await? {
            outgoing.content.insert(AUTHORISER.to_owned(), authoriser.as_str().into());
        }
        Ok(())
    }

    async fn send_member(
        &self,
        sender: &UserId,
        target: &UserId,
        own: CanonicalJsonObject,
        details: Details,
    ) -> Result<Sent, SendError> {
        let mut content = details.content;
        if let Some(reason) = details.reason {
            content.insert("reason".to_owned(), reason.into());
        }
        content.extend(own);
        let event = Outgoing::state(sender.to_owned(), "m.room.member", target.as_str(), content);
        self.send(Outgoing { local: details.local, riders: details.riders, rate_limited: false, ..event }).await
    }

    async fn check_join_limits(&self, user: &UserId) -> Result<(), SendError> {
        let limits = self.context().users.limits();
        if let Some(nid) = self.context().user_nid(user).await? {
            let checked =
                limits.check(Limit::JoinsLocal(nid)).and_then(|()| limits.check(Limit::JoinsOfRoom(self.id())));
            checked.map_err(|exceeded| SendError::LimitExceeded { retry_after: exceeded.retry_after })?;
        }
        Ok(())
    }

    pub(crate) async fn current(&self) -> Result<Current<'_>, SendError> {
        Current::read(self.context(), self.info()).await?.ok_or(SendError::UnknownRoom)
    }
}

impl Rooms {
    /// The content of a member event: the membership and, of a user of this server, the profile.
    pub(crate) async fn member_content(&self, user: &UserId, name: &str) -> Result<CanonicalJsonObject, ReadError> {
        let mut content = membership(name);
        let profile = self.context().users.profiles().get(user).await.map_err(read_error)?.unwrap_or_default();
        for field in PROFILE_FIELDS {
            if let Some(value) = profile.field(field).and_then(|value| value.as_str()) {
                content.insert(field.to_owned(), value.into());
            }
        }
        Ok(content)
    }
}

fn membership(name: &str) -> CanonicalJsonObject {
    CanonicalJsonObject::from([("membership".to_owned(), name.into())])
}

fn sent_before(event: &StoredEvent) -> Sent {
    Sent { event_id: event.pdu.event_id().clone(), position: event.position }
}
