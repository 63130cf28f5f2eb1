//! A user's profile in their member events (client-server API, "Events on Change of Profile Information").

use ruma::{UserId, canonical_json::CanonicalJsonObject};
use storage::{Batch, schema::rooms::Membership};

use super::{AUTHORISER, Details};
use crate::{
    outgoing::{Rider, SendError, SlotUnchanged},
    room::Room,
};

/// The fields of a profile that are part of member events.
pub const FIELDS: [&str; 2] = ["displayname", "avatar_url"];

/// What a member event says of the change of membership that it was, and no longer of the member.
const OF_THE_CHANGE: [&str; 4] = ["reason", "is_direct", "third_party_invite", AUTHORISER];

impl Room {
    /// Carries a local user's profile into their member event, if they have joined and it says something else; a name that they set for this room
    /// alone is lost, as it is everywhere. Answers whether an event was sent.
    ///
    /// The event is sent only on the membership that was read: who leaves meanwhile is not brought back ([`SendError::PreconditionFailed`]).
    pub async fn carry_profile(&self, user: &UserId) -> Result<bool, SendError> {
        let member = self.current().await?.member(user).await?;
        let joined = member.filter(|event| event.header.membership == Some(Membership::Join));
        let Some(member) = joined else { return Ok(false) };
        let own = self.rooms().member_content(user, "join").await?;
        let Ok(mut content) = member.pdu.content_as::<CanonicalJsonObject>() else { return Ok(false) };
        if FIELDS.iter().all(|field| content.get(*field) == own.get(*field)) {
            return Ok(false);
        }
        for field in FIELDS.iter().chain(&OF_THE_CHANGE) {
            content.remove(*field);
        }
        let unchanged = SlotUnchanged {
            event_type: "m.room.member".to_owned(),
            state_key: user.to_string(),
            since: member.position,
            other_sender_only: None,
        };
        let rider = Rider { unchanged: Some(unchanged), ..Rider::new(|_| Batch::new()) };
        let details = Details { content, riders: vec![rider], ..Details::default() };
        self.send_member(user, user, own, details).await?;
        Ok(true)
    }
}
