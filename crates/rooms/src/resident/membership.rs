//! Member events that users of other servers have made of a template.

use ruma::{ServerName, UserId};
use storage::schema::rooms::{Membership, Verdict};

use super::{JoinAnswer, Making, ResidentError, Submitted};
use crate::{
    Pdu,
    membership::AUTHORISER,
    receive::{EventKeys, Received},
    room::Room,
};

impl Room {
    /// Takes in the join of a user of another server, and answers with the room before it. Where the join is authorised by a member of this server, this
    /// server signs it too, once it has found by itself that the user may join. Done twice, it is done once.
    ///
    /// # Errors
    /// It is no such event, or the room doesn't allow it: see [`ResidentError`].
    pub async fn accept_join(
        &self,
        submitted: Submitted,
        omit_members: bool,
        keys: &impl EventKeys,
    ) -> Result<JoinAnswer, ResidentError> {
        let pdu = self.submitted(&submitted).await?;
        let pdu = if self.names_local_authoriser(&pdu) { self.vouched(pdu).await? } else { pdu };
        let event = self.accept(pdu, keys).await?;
        self.join_answer(event, omit_members).await
    }

    /// Takes in the leave of a user of another server: also where it refuses an invite or withdraws a knock. Done twice, it is done once.
    ///
    /// # Errors
    /// It is no such event, or the room doesn't allow it: see [`ResidentError`].
    pub async fn accept_leave(&self, submitted: Submitted, keys: &impl EventKeys) -> Result<(), ResidentError> {
        let pdu = self.submitted(&submitted).await?;
        self.accept(pdu, keys).await.map(|_| ())
    }

    /// Takes in the knock of a user of another server, and answers with events by which the room can be recognised. Done twice, it is done once.
    ///
    /// # Errors
    /// It is no such event, or the room doesn't allow it: see [`ResidentError`].
    pub async fn accept_knock(&self, submitted: Submitted, keys: &impl EventKeys) -> Result<Vec<Pdu>, ResidentError> {
        let pdu = self.submitted(&submitted).await?;
        self.accept(pdu, keys).await?;
        Ok(self.current().await?.identifying(None).await?)
    }

    /// The event that was sent, if it is what the request says: the member event of a user of the server that sends it, about themselves
    /// (SECURITY 1, 3).
    async fn submitted(&self, submitted: &Submitted) -> Result<Pdu, ResidentError> {
        let Submitted { origin, making, event_id, json } = submitted;
        let invalid = |reason: &str| Err(ResidentError::Invalid(reason.to_owned()));
        let pdu = Pdu::parse(self.version(), json).map_err(|error| ResidentError::Invalid(error.to_string()))?;
        if pdu.room_id() != self.id() {
            return invalid("the event is of another room");
        }
        if pdu.event_id() != event_id {
            return invalid("the event has another id than the path");
        }
        self.check_serves(origin, *making).await?;
        if pdu.kind() != "m.room.member" || pdu.membership() != Some(membership_of(*making)) {
            return invalid("it is not the member event that belongs here");
        }
        if pdu.state_key() != Some(pdu.sender().as_str()) {
            return invalid("the event is about somebody else than its sender");
        }
        if pdu.sender().server_name() != origin {
            return invalid("the event's sender is of another server");
        }
        if !pdu.content_hash_matches() {
            return invalid("the event's content doesn't fit its hash");
        }
        Ok(pdu)
    }

    /// Whether a member of this server is said to vouch for a join.
    fn names_local_authoriser(&self, pdu: &Pdu) -> bool {
        let content = pdu.content_as::<serde_json::Value>().unwrap_or_default();
        let named = content.get(AUTHORISER).and_then(|user| <&UserId>::try_from(user.as_str()?).ok());
        named.is_some_and(|user| self.context().users.is_local(user))
    }

    /// The join with this server's signature. Whoever is named, the server vouches: it asks the room's rule itself, for the rules of authorisation look at
    /// the named member only.
    async fn vouched(&self, pdu: Pdu) -> Result<Pdu, ResidentError> {
        // None where nobody has to vouch: then the event is judged like any join.
        self.authoriser_of_joiner(pdu.sender()).await?;
        let context = self.context();
        let name: &ServerName = &context.options.server_name;
        pdu.cosigned(&context.key, name).map_err(|error| ResidentError::Invalid(error.to_string()))
    }

    /// Takes an event in, for all servers of the room to be told of it. Answers with it as it is stored.
    pub(super) async fn accept(&self, pdu: Pdu, keys: &impl EventKeys) -> Result<Pdu, ResidentError> {
        match self.receive_first(pdu.clone(), keys).await? {
            Received::Stored(_, Verdict::Accepted) => Ok(pdu),
            Received::Stored(_, Verdict::Rejected(reason) | Verdict::SoftFailed(reason)) => {
                Err(ResidentError::Forbidden(reason))
            }
            Received::Missing(..) => {
                Err(ResidentError::Invalid("the event names events that are not known here".into()))
            }
            Received::Invalid(reason) => Err(ResidentError::Invalid(reason)),
        }
    }
}

/// The membership that an event of this kind sets.
pub(super) fn membership_of(making: Making) -> Membership {
    match making {
        Making::Join => Membership::Join,
        Making::Leave => Membership::Leave,
        Making::Knock => Membership::Knock,
    }
}
