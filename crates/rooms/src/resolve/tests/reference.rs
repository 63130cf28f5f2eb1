//! The algorithms with full inputs: whole states, whole auth chains, no tree and no slice.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedEventId,
    events::StateEventType,
    state_res::{StateMap, resolve as ruma_resolve, utils::event_id_set::EventIdSet},
};
use sha1::{Digest, Sha1};

use super::Ids;
use crate::{
    Pdu,
    auth::authorise,
    testing::{State, TestRoom},
    version::Resolution,
};

/// The outcome for those states.
pub(super) fn resolve(room: &TestRoom, states: &[State]) -> Ids {
    match room.version.resolution() {
        Resolution::V1 => version_1(states),
        Resolution::V2 | Resolution::V2_1 => version_2(room, states),
    }
}

fn version_2(room: &TestRoom, states: &[State]) -> Ids {
    let maps: Vec<StateMap<OwnedEventId>> = states.iter().map(whole).collect();
    let chains = states.iter().map(|state| chain(room, state.values())).collect();
    let rules = room.version.rules();
    let outcome = ruma_resolve(
        &rules.authorization,
        rules.state_res.v2_rules().expect("version 2"),
        &maps,
        chains,
        |id| room.get(id),
        |conflicted| Some(subgraph(room, &conflicted.values().flatten().cloned().collect())),
    );
    let outcome = outcome.expect("accepted events resolve");
    outcome.into_iter().map(|((kind, key), id)| ((kind.to_string(), key), id)).collect()
}

fn whole(state: &State) -> StateMap<OwnedEventId> {
    let key = |(kind, key): &(String, String)| (StateEventType::from(kind.as_str()), key.clone());
    state.iter().map(|(at, pdu)| (key(at), pdu.event_id().clone())).collect()
}

/// Every event that can be reached by `auth_events` from some events, themselves only if they are reached.
fn chain<'a>(room: &TestRoom, events: impl Iterator<Item = &'a Pdu>) -> EventIdSet<OwnedEventId> {
    let mut reached = EventIdSet::new();
    let mut open: Vec<_> = events.flat_map(|pdu| pdu.auth_events().to_vec()).collect();
    while let Some(id) = open.pop() {
        if reached.insert(id.clone()) {
            open.extend(room.get(&id).expect("known").auth_events().to_vec());
        }
    }
    reached
}

/// Every event that is in the auth chain of some state but not of every one.
pub(super) fn difference(room: &TestRoom, states: &[State]) -> BTreeSet<OwnedEventId> {
    let chains: Vec<_> = states.iter().map(|state| chain(room, state.values())).collect();
    let all: BTreeSet<_> = chains.iter().flat_map(EventIdSet::iter).cloned().collect();
    all.into_iter().filter(|id| chains.iter().any(|chain| !chain.contains(id))).collect()
}

/// Every event that some event in conflict reaches, and that reaches some event in conflict.
pub(super) fn subgraph(room: &TestRoom, conflicted: &BTreeSet<OwnedEventId>) -> EventIdSet<OwnedEventId> {
    let pdus: Vec<_> = conflicted.iter().filter_map(|id| room.get(id)).collect();
    let mut below = chain(room, pdus.iter());
    below.extend(conflicted.iter().cloned());
    let leads = |id: &OwnedEventId| {
        let pdu = room.get(id).expect("known");
        let mut reached = chain(room, std::iter::once(&pdu));
        reached.insert(id.clone());
        conflicted.iter().any(|one| reached.contains(one))
    };
    below.into_iter().filter(leads).collect()
}

fn version_1(states: &[State]) -> Ids {
    let mut values: BTreeMap<(String, String), BTreeMap<OwnedEventId, Pdu>> = BTreeMap::new();
    for (key, pdu) in states.iter().flatten() {
        values.entry(key.clone()).or_default().insert(pdu.event_id().clone(), pdu.clone());
    }
    let mut result = State::new();
    let mut conflicts: BTreeMap<(String, String), Vec<Pdu>> = BTreeMap::new();
    for (key, events) in values {
        let mut events: Vec<_> = events.into_values().collect();
        if events.len() == 1 {
            result.extend(events.pop().map(|only| (key, only)));
        } else {
            events.sort_by_key(|pdu| (pdu.depth(), std::cmp::Reverse(Sha1::digest(pdu.event_id().as_str()))));
            conflicts.insert(key, events);
        }
    }
    for kind in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let before = result.clone();
        for (key, events) in conflicts.iter().filter(|(key, _)| key.0 == kind) {
            let mut here = before.clone();
            here.insert(key.clone(), events[0].clone());
            for event in &events[1..] {
                if !allowed(event, &here) {
                    break;
                }
                here.insert(key.clone(), event.clone());
            }
            result.insert(key.clone(), here[key].clone());
        }
        conflicts.retain(|key, _| key.0 != kind);
    }
    let before = result.clone();
    for (key, events) in conflicts {
        let winner = events.iter().rev().find(|event| allowed(event, &before)).unwrap_or(&events[0]);
        result.insert(key, winner.clone());
    }
    super::ids(&result)
}

fn allowed(event: &Pdu, state: &State) -> bool {
    authorise(event, |kind, key| state.get(&(kind.to_owned(), key.to_owned())).cloned()).is_ok()
}
