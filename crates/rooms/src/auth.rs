//! Authorisation of events (specification, server-server API, "Authorization rules").
//!
//! The rules are ruma's. What is added here is the room versions with owned state (MSC3757), and look-ups by plain text.

pub(crate) mod owned_state;

use ruma::{
    EventId, UserId,
    events::{StateEventType, TimelineEventType},
    state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules},
};
use serde_json::value::RawValue;

use crate::{Pdu, RoomVersion};

/// A type and state key that authorisation looks at.
pub type AuthKey = (&'static str, String);

/// Why an event is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// A rule of the specification forbids it.
    #[error("{reason}")]
    Forbidden {
        /// Which, in words.
        reason: String,
    },
    /// In rooms with owned state: the state key begins with `@` but names no owner. To a client, `M_BAD_JSON`.
    #[error("the state key is neither a user id nor a user id, an underscore and more")]
    StateKey,
}

impl AuthError {
    fn forbidden(reason: impl Into<String>) -> Self {
        Self::Forbidden { reason: reason.into() }
    }
}

/// The types and state keys of the state events that belong in an event's `auth_events` (specification, "Auth events selection").
/// In room version 12 the create event is not among them. Fails when the content is malformed.
pub fn auth_types_for(
    version: RoomVersion,
    event_type: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
) -> Result<Vec<AuthKey>, AuthError> {
    let keys = auth_types_for_event(event_type, sender, state_key, content, version.authorization());
    let keys = keys.map_err(AuthError::forbidden)?.into_iter().filter_map(|(kind, key)| Some((known(&kind)?, key)));
    Ok(keys.collect())
}

/// Every type and state key that [`authorise`] may look up for an event: those of [`auth_types_for`], and always the create event.
pub fn lookup_types_for(pdu: &Pdu) -> Result<Vec<AuthKey>, AuthError> {
    let mut keys = auth_types_for(pdu.version(), pdu.event_type(), pdu.sender(), pdu.state_key(), pdu.content())?;
    if !keys.iter().any(|(kind, _)| *kind == "m.room.create") {
        keys.push(("m.room.create", String::new()));
    }
    Ok(keys)
}

/// The rules that don't depend on state: the create event's own, and those on which events may be in `auth_events`. `fetch` gives
/// an event by id with its verdict ([`Pdu::with_rejected`]); in room version 12 it is asked for the create event too. The event's
/// signatures have been checked before. Needed once for every received event; if it fails the event is rejected.
pub fn check_auth_events(pdu: &Pdu, fetch: impl Fn(&EventId) -> Option<Pdu>) -> Result<(), AuthError> {
    check_state_independent_auth_rules(pdu.version().authorization(), pdu, fetch).map_err(AuthError::forbidden)
}

/// Whether an event is allowed in a state. `lookup` gives the state event of a type and state key; it is asked only for
/// [`lookup_types_for`] the event. A received event passes this against its auth events, the state before it, and the current
/// state (where failing is soft).
pub fn authorise(pdu: &Pdu, lookup: impl Fn(&str, &str) -> Option<Pdu>) -> Result<(), AuthError> {
    let rules = pdu.version().authorization();
    let lookup = |kind: &StateEventType, key: &str| known(kind).and_then(|kind| lookup(kind, key));
    match owned_state::ruling(pdu, &lookup)? {
        owned_state::Ruling::Ordinary => check_state_dependent_auth_rules(rules, pdu, lookup),
        owned_state::Ruling::MayWrite(as_own) => check_state_dependent_auth_rules(rules, &as_own, lookup),
        owned_state::Ruling::NoOwner(as_own) => {
            let other_rules = check_state_dependent_auth_rules(rules, &as_own, lookup);
            return other_rules.map_err(AuthError::forbidden).and(Err(AuthError::StateKey));
        }
    }
    .map_err(AuthError::forbidden)
}

/// The name of a type that authorisation looks at; no other type is ever asked for.
fn known(kind: &StateEventType) -> Option<&'static str> {
    Some(match kind {
        StateEventType::RoomCreate => "m.room.create",
        StateEventType::RoomMember => "m.room.member",
        StateEventType::RoomPowerLevels => "m.room.power_levels",
        StateEventType::RoomJoinRules => "m.room.join_rules",
        StateEventType::RoomThirdPartyInvite => "m.room.third_party_invite",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
