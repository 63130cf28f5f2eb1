//! Owned state (MSC3757): a state key `@user:server` or `@user:server_suffix` belongs to that user, who may write it, as may those
//! whose power level is higher.

use ruma::{
    Int, UserId,
    events::StateEventType,
    int,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent},
};

use super::AuthError;
use crate::Pdu;

/// How the rule on state keys that begin with `@` applies to an event.
pub(crate) enum Ruling {
    /// As the specification has it.
    Ordinary,
    /// The sender may write the key: the event passes for one under the sender's own key.
    MayWrite(Pdu),
    /// The key names no owner. The other rules are judged on the event as if under the sender's own key.
    NoOwner(Pdu),
}

/// Looks at the state key, and at power levels where they decide.
pub(crate) fn ruling(pdu: &Pdu, lookup: &impl Fn(&StateEventType, &str) -> Option<Pdu>) -> Result<Ruling, AuthError> {
    let owned_key = pdu.state_key().filter(|key| key.starts_with('@') && *key != pdu.sender());
    let Some(state_key) = owned_key.filter(|_| pdu.version().has_owned_state() && pdu.kind() != "m.room.member") else {
        return Ok(Ruling::Ordinary);
    };
    let as_own = pdu.under_state_key(pdu.sender().as_str());
    let Some(owner) = owner_of(state_key) else { return Ok(Ruling::NoOwner(as_own)) };
    if owner == pdu.sender() || power_level(pdu, pdu.sender(), lookup)? > power_level(pdu, owner, lookup)? {
        return Ok(Ruling::MayWrite(as_own));
    }
    Ok(Ruling::Ordinary)
}

/// The user id that a state key consists of, or that stands before the first underscore of its server part.
fn owner_of(state_key: &str) -> Option<&UserId> {
    let server = state_key.find(':')? + 1;
    let end = state_key[server..].find('_').map_or(state_key.len(), |at| server + at);
    state_key[..end].try_into().ok()
}

fn power_level(
    pdu: &Pdu,
    user: &UserId,
    lookup: &impl Fn(&StateEventType, &str) -> Option<Pdu>,
) -> Result<Int, AuthError> {
    let rules = pdu.version().authorization();
    if let Some(levels) = lookup(&StateEventType::RoomPowerLevels, "") {
        return RoomPowerLevelsEvent::new(levels).user_power_level(user, rules).map_err(AuthError::forbidden);
    }
    let create =
        lookup(&StateEventType::RoomCreate, "").ok_or_else(|| AuthError::forbidden("the room has no create event"))?;
    let creators = RoomCreateEvent::new(create).creators(rules).map_err(AuthError::forbidden)?;
    Ok(if creators.contains(user) { int!(100) } else { int!(0) })
}
