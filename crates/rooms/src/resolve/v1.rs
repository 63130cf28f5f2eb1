//! Room version 1's algorithm, over the keys in conflict and what authorises their events.
//!
//! Here a key is in conflict only if states hold *different events* for it; one that some states don't hold keeps the event of those
//! that do. Power levels, then join rules, then members are resolved from the lowest depth up, each as long as the next event is allowed
//! with the one before in place; any other key takes the deepest event that is allowed. Keys of one of these steps don't see each
//! other's outcome. Where none is allowed, the least deep event stays.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{Rix, Slot};
use sha1::{Digest, Sha1};

use super::{Delta, Env, Needs, ResolveError, conflicts::Conflicts, rix_of};
use crate::{
    Pdu,
    auth::{authorise, lookup_types_for},
    state,
};

type Key = (String, String);

/// A key that the states hold differently.
struct Disputed {
    slot: Slot,
    /// The base's event.
    before: Option<Rix>,
    /// The different events for it, deepest first; of equal depth, in the order of their ids' SHA-1.
    candidates: Vec<(Rix, Pdu)>,
}

/// Resolves the states.
pub(super) fn resolve(env: &impl Env, conflicts: &Conflicts) -> Result<Delta, ResolveError> {
    let mut needs = Needs::default();
    let disputed = disputed(env, conflicts, &mut needs);
    if !needs.is_empty() {
        return Err(needs.into_error());
    }
    let mut resolved = shared(env, conflicts, &disputed)?;
    let undisputed = disputed.iter().filter(|(_, disputed)| disputed.candidates.len() == 1);
    let undisputed = undisputed.map(|(key, disputed)| (key.clone(), disputed.candidates[0].clone()));
    resolved.extend(undisputed.collect::<Vec<_>>());

    let steps: [fn(&Key) -> bool; 4] = [
        |key| key.0 == "m.room.power_levels" && key.1.is_empty(),
        |key| key.0 == "m.room.join_rules",
        |key| key.0 == "m.room.member",
        |_| true,
    ];
    for (number, step) in steps.iter().enumerate() {
        let keys = disputed.iter().filter(|(key, disputed)| {
            disputed.candidates.len() > 1 && step(key) && !steps[..number].iter().any(|earlier| earlier(key))
        });
        let decide = if number < 3 { highest_in_turn } else { deepest_allowed };
        let winners = keys.map(|(key, disputed)| (key.clone(), decide(&disputed.candidates, &resolved).clone()));
        let winners: Vec<_> = winners.collect();
        resolved.extend(winners);
    }

    let mut delta = Delta::nothing(conflicts.base, conflicts.partial);
    for (key, disputed) in &disputed {
        let now = resolved.get(key).map(|(rix, pdu)| (*rix, pdu));
        delta.push(Some(disputed.slot), disputed.before, now);
    }
    delta.changes.sort_by_key(|change| change.slot);
    Ok(delta)
}

/// The keys that the states hold differently, with the events that they hold.
fn disputed(env: &impl Env, conflicts: &Conflicts, needs: &mut Needs) -> BTreeMap<Key, Disputed> {
    let mut disputed = BTreeMap::new();
    for (slot, held) in &conflicts.slots {
        let different: BTreeSet<_> = held.iter().flatten().map(|entry| entry.rix).collect();
        let mut candidates = vec![];
        for rix in different {
            match env.event(rix) {
                Some(pdu) => candidates.push((rix, pdu)),
                None => {
                    needs.events.insert(rix);
                }
            }
        }
        candidates.sort_by_cached_key(|(_, pdu)| (u64::MAX - pdu.depth(), Sha1::digest(pdu.event_id().as_bytes())));
        let Some((_, pdu)) = candidates.first() else { continue };
        let key = (pdu.kind().to_owned(), pdu.state_key().unwrap_or_default().to_owned());
        disputed.insert(key, Disputed { slot: *slot, before: rix_of(held[0]), candidates });
    }
    disputed
}

/// The state events that authorise the candidates and that all states hold alike.
fn shared(
    env: &impl Env,
    conflicts: &Conflicts,
    disputed: &BTreeMap<Key, Disputed>,
) -> Result<BTreeMap<Key, (Rix, Pdu)>, ResolveError> {
    let mut needs = Needs::default();
    let candidates = disputed.values().flat_map(|disputed| &disputed.candidates);
    let wanted: BTreeSet<Key> = candidates
        .flat_map(|(_, pdu)| lookup_types_for(pdu).unwrap_or_default())
        .map(|(kind, state_key)| (kind.to_owned(), state_key))
        .filter(|key| !disputed.contains_key(key))
        .collect();
    let mut slots = vec![];
    for key in wanted {
        match env.slot(&key.0, &key.1) {
            Some(slot) => slots.extend(slot.map(|slot| (key, slot))),
            None => {
                needs.slots.insert(key);
            }
        }
    }
    let only_slots: Vec<_> = slots.iter().map(|(_, slot)| *slot).collect();
    let entries = needs.tree(state::get_many(env, conflicts.base, &only_slots))?.unwrap_or_default();
    let mut shared = BTreeMap::new();
    for ((key, _), entry) in slots.into_iter().zip(entries) {
        let Some(rix) = rix_of(entry) else { continue };
        match env.event(rix) {
            Some(pdu) => {
                shared.insert(key, (rix, pdu));
            }
            None => {
                needs.events.insert(rix);
            }
        }
    }
    if needs.is_empty() { Ok(shared) } else { Err(needs.into_error()) }
}

/// From the least deep event up: the last one before one that is not allowed while its predecessor stands.
fn highest_in_turn<'a>(candidates: &'a [(Rix, Pdu)], resolved: &BTreeMap<Key, (Rix, Pdu)>) -> &'a (Rix, Pdu) {
    let mut ascending = candidates.iter().rev();
    let mut standing = ascending.next().expect("a key in conflict has candidates");
    for next in ascending {
        let allowed = authorise(&next.1, |kind, state_key| {
            if standing.1.is_state(kind, state_key) {
                return Some(standing.1.clone());
            }
            look_up(resolved, kind, state_key)
        });
        if allowed.is_err() {
            break;
        }
        standing = next;
    }
    standing
}

/// The deepest event that is allowed, or else the least deep one.
fn deepest_allowed<'a>(candidates: &'a [(Rix, Pdu)], resolved: &BTreeMap<Key, (Rix, Pdu)>) -> &'a (Rix, Pdu) {
    let allowed = |pdu: &Pdu| authorise(pdu, |kind, state_key| look_up(resolved, kind, state_key)).is_ok();
    let deepest = candidates.iter().find(|(_, pdu)| allowed(pdu));
    deepest.or(candidates.last()).expect("a key in conflict has candidates")
}

fn look_up(resolved: &BTreeMap<Key, (Rix, Pdu)>, kind: &str, state_key: &str) -> Option<Pdu> {
    resolved.get(&(kind.to_owned(), state_key.to_owned())).map(|(_, pdu)| pdu.clone())
}
