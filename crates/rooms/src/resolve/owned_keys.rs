//! Owned state (MSC3757) under ruma's algorithm, which knows only the specification's rule on state keys that begin with `@`.
//!
//! In rooms with owned state such keys go through the algorithm under another name, which that rule doesn't touch. Whether the writer
//! may write the key is judged beforehand: by ownership, or by the power levels that the event itself cites.

use ruma::{EventId, events::StateEventType, state_res::StateMap};

use crate::{
    Pdu, RoomVersion,
    auth::owned_state::{Ruling, ruling},
};

/// A state key as the algorithm sees it.
pub(super) fn key_for(version: RoomVersion, kind: &str, state_key: &str) -> (StateEventType, String) {
    let renamed = version.has_owned_state() && kind != "m.room.member" && state_key.starts_with('@');
    (kind.into(), if renamed { format!("owned {state_key}") } else { state_key.to_owned() })
}

/// An event as the algorithm sees it; `None` if its writer may not write its key.
pub(super) fn event_for(pdu: Pdu, fetch: impl Fn(&EventId) -> Option<Pdu>) -> Option<Pdu> {
    let Some(state_key) = pdu.state_key().filter(|_| pdu.version().has_owned_state()) else { return Some(pdu) };
    let (_, renamed) = key_for(pdu.version(), pdu.kind(), state_key);
    if renamed == state_key {
        return Some(pdu);
    }
    if state_key != pdu.sender() {
        let auth = pdu.auth_events().iter().filter_map(|id| fetch(id));
        let auth: StateMap<Pdu> =
            auth.filter_map(|pdu| Some(((pdu.kind().into(), pdu.state_key()?.to_owned()), pdu))).collect();
        let cited = |kind: &StateEventType, key: &str| auth.get(&(kind.clone(), key.to_owned())).cloned();
        if !matches!(ruling(&pdu, &cited), Ok(Ruling::MayWrite(_))) {
            return None;
        }
    }
    Some(pdu.under_state_key(&renamed))
}
