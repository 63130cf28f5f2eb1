//! Third-party invites (server-server API, "Third-party invites"): somebody was invited by an address, which turns out to be a user's of another server. That server asks for the
//! invite proper.

use ruma::{
    OwnedUserId, ServerName, UserId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};

use super::{Making, ResidentError};
use crate::{Outgoing, room::Room};

impl Room {
    /// Sends the invite that takes the place of an `m.room.third_party_invite` of a user of this server. The rules of authorisation check that an identity server which that
    /// event names has signed for the invited user; nothing else of what came is taken over.
    ///
    /// # Errors
    /// The event is none of this kind, or the room doesn't allow it: see [`ResidentError`].
    pub async fn exchange_third_party_invite(
        &self,
        origin: &ServerName,
        event: &CanonicalJsonObject,
    ) -> Result<(), ResidentError> {
        let invalid = |reason: &str| ResidentError::Invalid(reason.to_owned());
        let text = |field: &str| event.get(field).and_then(CanonicalJsonValue::as_str);
        let content = event.get("content").and_then(CanonicalJsonValue::as_object);
        let membership = content.and_then(|content| content.get("membership")).and_then(CanonicalJsonValue::as_str);
        if text("type") != Some("m.room.member") || membership != Some("invite") {
            return Err(invalid("it is no invite"));
        }
        if text("room_id") != Some(self.id().as_str()) {
            return Err(invalid("the event is of another room"));
        }
        let user = |field| text(field).and_then(|id| OwnedUserId::try_from(id).ok());
        let (Some(sender), Some(invited)) = (user("sender"), user("state_key")) else {
            return Err(invalid("sender and state_key are users"));
        };
        let third_party = content.and_then(|content| content.get("third_party_invite"));
        let third_party = third_party.and_then(CanonicalJsonValue::as_object).and_then(whitelisted);
        let third_party = third_party.ok_or_else(|| invalid("nothing signed is in it"))?;
        if invited.server_name() != origin {
            return Err(ResidentError::Forbidden("the invited user is of another server".to_owned()));
        }
        if !self.context().users.is_local(&sender) {
            return Err(ResidentError::Forbidden(
                "the invite is to be asked for at the server of who invited".to_owned(),
            ));
        }
        self.check_serves(origin, Making::Join).await?;
        self.send_exchanged(&sender, &invited, third_party).await
    }

    async fn send_exchanged(
        &self,
        sender: &UserId,
        invited: &UserId,
        third_party: CanonicalJsonObject,
    ) -> Result<(), ResidentError> {
        let content = CanonicalJsonObject::from([
            ("membership".to_owned(), "invite".into()),
            ("third_party_invite".to_owned(), CanonicalJsonValue::Object(third_party)),
        ]);
        let outgoing = Outgoing::state(sender.to_owned(), "m.room.member", invited.as_str(), content);
        self.send(Outgoing { rate_limited: false, ..outgoing }).await?;
        Ok(())
    }
}

/// The two fields of a third-party invite.
fn whitelisted(third_party: &CanonicalJsonObject) -> Option<CanonicalJsonObject> {
    let signed = third_party.get("signed").filter(|signed| signed.as_object().is_some())?;
    let name = third_party.get("display_name").filter(|name| name.as_str().is_some());
    let name = name.map(|name| ("display_name".to_owned(), name.clone()));
    Some(name.into_iter().chain([("signed".to_owned(), signed.clone())]).collect())
}
