//! Templates of member events.

use primitives::canonical;
use ruma::{
    ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use storage::schema::rooms::Membership;
use tokio::sync::oneshot;

use super::{Making, ResidentError, membership::membership_of};
use crate::{
    Pdu,
    membership::AUTHORISER,
    outgoing::{Outgoing, SendError},
    partial::Period,
    room::Room,
    worker::{DraftRequest, Request},
};

/// What of an event the server that signs it puts there itself.
const LEFT_OUT: [&str; 3] = ["event_id", "hashes", "signatures"];

impl Room {
    /// A member event for a user of another server, as it would stand in the room now. `versions` are the room versions that the server knows, for joins
    /// and knocks.
    ///
    /// # Errors
    /// The room doesn't allow the event, or this server can't say so: see [`ResidentError`].
    pub async fn template(
        &self,
        origin: &ServerName,
        making: Making,
        user: &UserId,
        versions: &[String],
    ) -> Result<CanonicalJsonObject, ResidentError> {
        if user.server_name() != origin {
            return Err(ResidentError::Forbidden("the user is of another server".to_owned()));
        }
        self.check_serves(origin, making).await?;
        if making != Making::Leave && !versions.iter().any(|version| version == self.version().as_str()) {
            return Err(ResidentError::IncompatibleVersion(self.version()));
        }
        let mut content = CanonicalJsonObject::from([("membership".to_owned(), membership_of(making).as_str().into())]);
        if making == Making::Join
            && let Some(authoriser) = self.authoriser_of_joiner(user).await?
        {
            content.insert(AUTHORISER.to_owned(), authoriser.as_str().into());
        }
        let outgoing = Outgoing::state(user.to_owned(), "m.room.member", user.as_str(), content);
        let drafted = self.draft(outgoing).await?;
        let mut event = canonical::parse_object(drafted.json().as_bytes())
            .map_err(|error| ResidentError::Invalid(error.to_string()))?;
        for field in LEFT_OUT {
            event.remove(field);
        }
        event.insert("origin".to_owned(), CanonicalJsonValue::String(origin.to_string()));
        Ok(event)
    }

    /// Who vouches for a user of another server, if the room's rule asks for somebody. Who is invited or there already needs nobody.
    pub(super) async fn authoriser_of_joiner(&self, user: &UserId) -> Result<Option<ruma::OwnedUserId>, ResidentError> {
        let current = self.current().await?;
        if matches!(current.membership(user).await?, Some(Membership::Join | Membership::Invite | Membership::Ban)) {
            return Ok(None);
        }
        Ok(self.authoriser(&current, user).await?)
    }

    /// Refuses to serve a room that nobody of this server is in, and servers that its ACL keeps out.
    /// Into a room whose members are not all known it lets nobody (MSC3902).
    pub(super) async fn check_serves(&self, origin: &ServerName, making: Making) -> Result<(), ResidentError> {
        let current = self.current().await?;
        if making != Making::Leave && Period::open(current.view(), self.nid()).await?.is_some() {
            return Err(ResidentError::UnknownRoom);
        }
        if !current.has_server(&self.context().options.server_name).await? {
            return Err(ResidentError::UnknownRoom);
        }
        if !current.allows_server(origin).await? {
            return Err(ResidentError::Forbidden("the room keeps the server out".to_owned()));
        }
        Ok(())
    }

    /// Has an event made as it would stand in the room now; nothing is kept of it.
    pub(crate) async fn draft(&self, outgoing: Outgoing) -> Result<Pdu, SendError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Draft(DraftRequest { outgoing: Box::new(outgoing), reply });
        self.rooms().ask(self.info(), request).await.map_err(|_| SendError::Unavailable)?;
        answer.await.unwrap_or(Err(SendError::Unavailable))
    }
}
