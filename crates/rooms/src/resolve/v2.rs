//! Versions 2 and 2.1 of the algorithm: ruma's `resolve` over slices.
//!
//! A slice holds what the algorithm can look at: the keys in conflict, the keys of the events in the full conflicted set and those that
//! authorise them, the create event and the power levels. Outside of it the states agree, and keep what they have.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use primitives::{Rix, Slot};
use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    state_res::{StateMap, resolve as ruma_resolve, utils::event_id_set::EventIdSet},
};

use super::{Delta, Env, Needs, ResolveError, conflicts::Conflicts, owned_keys, rix_of};
use crate::{Pdu, RoomVersion, auth::lookup_types_for, state};

/// A key in a slice: its slot, and the event that each state holds there.
struct Held {
    slot: Option<Slot>,
    by_set: Vec<Option<Rix>>,
}

/// Everything that one run of the algorithm looks at.
struct Slices<'a, E> {
    version: RoomVersion,
    env: &'a E,
    conflicts: &'a Conflicts,
    /// The full conflicted set and the events that the slices hold.
    events: BTreeMap<Rix, Pdu>,
    keys: HashMap<(StateEventType, String), Held>,
    needs: Needs,
}

/// Runs the algorithm on states whose auth difference (with the states that hold each event) and conflicted subgraph are known.
pub(super) fn resolve(
    version: RoomVersion,
    env: &impl Env,
    conflicts: &Conflicts,
    difference: &[(Rix, u64)],
    subgraph: &BTreeSet<Rix>,
) -> Result<Delta, ResolveError> {
    let mut slices =
        Slices { version, env, conflicts, events: BTreeMap::new(), keys: HashMap::new(), needs: Needs::default() };
    let full = conflicts.events().into_keys().chain(difference.iter().map(|(rix, _)| *rix));
    slices.load(full.chain(subgraph.iter().copied()))?;
    slices.add_conflicts();
    slices.add_shared()?;
    slices.follow_power_levels()?;
    slices.run(difference, subgraph)
}

impl<E: Env> Slices<'_, E> {
    /// Fails if anything was missing so far.
    fn stop_if_lacking(&mut self) -> Result<(), ResolveError> {
        let needs = std::mem::take(&mut self.needs);
        if needs.is_empty() { Ok(()) } else { Err(needs.into_error()) }
    }

    fn load(&mut self, events: impl Iterator<Item = Rix>) -> Result<(), ResolveError> {
        for rix in events {
            if self.events.contains_key(&rix) {
                continue;
            }
            match self.env.event(rix) {
                Some(pdu) => {
                    self.events.insert(rix, pdu);
                }
                None => {
                    self.needs.events.insert(rix);
                }
            }
        }
        self.stop_if_lacking()
    }

    fn key_of(&self, pdu: &Pdu) -> (StateEventType, String) {
        owned_keys::key_for(self.version, pdu.kind(), pdu.state_key().unwrap_or_default())
    }

    /// Puts the keys in conflict into the slices.
    fn add_conflicts(&mut self) {
        for (slot, held) in &self.conflicts.slots {
            let by_set: Vec<_> = held.iter().copied().map(rix_of).collect();
            let any = by_set.iter().flatten().next().and_then(|rix| self.events.get(rix));
            if let Some(key) = any.map(|pdu| self.key_of(pdu)) {
                self.keys.insert(key, Held { slot: Some(*slot), by_set });
            }
        }
    }

    /// Puts the further keys that the algorithm looks at into the slices; the states agree on them.
    fn add_shared(&mut self) -> Result<(), ResolveError> {
        let mut wanted = BTreeSet::from([("m.room.power_levels", String::new()), ("m.room.create", String::new())]);
        for pdu in self.events.values() {
            wanted.extend(lookup_types_for(pdu).unwrap_or_default());
            wanted.extend(pdu.state_key().map(|state_key| (pdu.kind(), state_key.to_owned())));
        }
        let mut shared = vec![];
        for (kind, state_key) in &wanted {
            let key = owned_keys::key_for(self.version, kind, state_key);
            match self.env.slot(kind, state_key) {
                _ if self.keys.contains_key(&key) => {}
                Some(slot) => shared.push((key, slot)),
                None => {
                    self.needs.slots.insert(((*kind).to_owned(), state_key.clone()));
                }
            }
        }
        let slots: Vec<_> = shared.iter().filter_map(|(_, slot)| *slot).collect();
        let entries = self.needs.tree(state::get_many(self.env, self.conflicts.base, &slots))?.unwrap_or_default();
        self.stop_if_lacking()?;
        let entries: HashMap<_, _> = slots.into_iter().zip(entries).collect();
        for (key, slot) in shared {
            let rix = rix_of(slot.and_then(|slot| entries[&slot]));
            self.keys.insert(key, Held { slot, by_set: vec![rix; self.conflicts.sets] });
        }
        let held: Vec<_> = self.keys.values().flat_map(|held| held.by_set.iter().flatten().copied()).collect();
        self.load(held.into_iter())
    }

    /// Makes sure that every event's auth events are there, and those of every power levels event that it descends from: the
    /// mainline is made of them.
    fn follow_power_levels(&mut self) -> Result<(), ResolveError> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<Pdu> = self.events.values().cloned().collect();
        while let Some(pdu) = open.pop() {
            if !seen.insert(pdu.event_id().clone()) {
                continue;
            }
            for id in pdu.auth_events().iter().chain(&pdu.create_event_id()) {
                match self.env.event_by_id(id) {
                    Some(Some((_, auth))) if auth.is_state("m.room.power_levels", "") => open.push(auth),
                    Some(_) => {}
                    None => {
                        self.needs.event_ids.insert(id.clone());
                    }
                }
            }
        }
        self.stop_if_lacking()
    }

    fn run(&mut self, difference: &[(Rix, u64)], subgraph: &BTreeSet<Rix>) -> Result<Delta, ResolveError> {
        let numbers: HashMap<OwnedEventId, Rix> =
            self.events.iter().map(|(rix, pdu)| (pdu.event_id().clone(), *rix)).collect();
        let sets: Vec<StateMap<OwnedEventId>> = (0..self.conflicts.sets).map(|at| self.slice(at)).collect();
        let chains = (0..self.conflicts.sets)
            .map(|at| self.ids(difference.iter().filter(|(_, mask)| mask & (1 << at) != 0).map(|(rix, _)| *rix)));
        let missed = RefCell::new(BTreeSet::new());
        let known = |id: &EventId| match numbers.get(id) {
            Some(rix) => self.events.get(rix).cloned(),
            None => self.env.event_by_id(id).map_or_else(
                || {
                    missed.borrow_mut().insert(id.to_owned());
                    None
                },
                |known| known.map(|(_, pdu)| pdu),
            ),
        };
        let fetch = |id: &EventId| known(id).and_then(|pdu| owned_keys::event_for(pdu, known));
        let rules = self.version.rules();
        let v2_rules = rules.state_res.v2_rules().expect("called for versions with the second algorithm");
        let outcome = ruma_resolve(&rules.authorization, v2_rules, &sets, chains.collect(), fetch, |_| {
            Some(self.ids(subgraph.iter().copied()))
        });
        self.needs.event_ids = missed.into_inner();
        self.stop_if_lacking()?;
        let outcome = outcome.map_err(|error| ResolveError::Algorithm(error.to_string()))?;
        Ok(self.delta(&outcome, &numbers))
    }

    fn ids(&self, events: impl Iterator<Item = Rix>) -> EventIdSet<OwnedEventId> {
        events.filter_map(|rix| Some(self.events.get(&rix)?.event_id().clone())).collect()
    }

    fn slice(&self, set: usize) -> StateMap<OwnedEventId> {
        let held = self.keys.iter().filter_map(|(key, held)| Some((key, held.by_set[set]?)));
        held.filter_map(|(key, rix)| Some((key.clone(), self.events.get(&rix)?.event_id().clone()))).collect()
    }

    /// What the outcome changes in the base.
    fn delta(&self, outcome: &StateMap<OwnedEventId>, numbers: &HashMap<OwnedEventId, Rix>) -> Delta {
        let mut delta = Delta::nothing(self.conflicts.base, self.conflicts.partial);
        let mut keys: Vec<_> = self.keys.iter().collect();
        keys.sort_by_key(|(_, held)| held.slot);
        for (key, held) in keys {
            let now =
                outcome.get(key).and_then(|id| numbers.get(id)).and_then(|rix| Some((*rix, self.events.get(rix)?)));
            delta.push(held.slot, held.by_set[0], now);
        }
        delta
    }
}
