//! Which keys the states hold differently.

use std::collections::BTreeMap;

use primitives::{NodeId, Rix, Slot};

use super::{Env, MAX_SETS, Needs, ResolveError};
use crate::state::{self, Entry};

/// The states that differ, and where.
#[derive(Debug)]
pub(super) struct Conflicts {
    /// The first of the states.
    pub(super) base: NodeId,
    /// How many different states there are.
    pub(super) sets: usize,
    /// Whether any of them is partial.
    pub(super) partial: bool,
    /// The slots that not all states hold alike, with what each holds, the base first.
    pub(super) slots: BTreeMap<Slot, Vec<Option<Entry>>>,
}

impl Conflicts {
    /// Compares the states. Those that are equal, whatever way led to them, count once.
    pub(super) fn find(env: &impl Env, roots: &[NodeId]) -> Result<Self, ResolveError> {
        let mut needs = Needs::default();
        let mut kept: Vec<(NodeId, u128)> = vec![];
        let mut partial = false;
        for root in roots {
            if let Some(known) = needs.tree(state::root(env, *root))? {
                partial |= known.partial;
                if kept.iter().all(|(_, fingerprint)| *fingerprint != known.fingerprint) {
                    kept.push((*root, known.fingerprint));
                }
            }
        }
        if !needs.is_empty() {
            return Err(needs.into_error());
        }
        let (Some((base, _)), 1..=MAX_SETS) = (kept.first().copied(), kept.len()) else {
            return Err(ResolveError::Sets(kept.len()));
        };
        let mut slots: BTreeMap<Slot, Vec<Option<Entry>>> = BTreeMap::new();
        for (at, (root, _)) in kept.iter().enumerate().skip(1) {
            for difference in needs.tree(state::diff(env, base, *root))?.unwrap_or_default() {
                let held = slots.entry(difference.slot).or_insert_with(|| vec![difference.before; kept.len()]);
                held[at] = difference.after;
            }
        }
        if needs.is_empty() { Ok(Self { base, sets: kept.len(), partial, slots }) } else { Err(needs.into_error()) }
    }

    /// Every state event in conflict, with a bit for each state that holds it.
    pub(super) fn events(&self) -> BTreeMap<Rix, u64> {
        let mut events = BTreeMap::new();
        for held in self.slots.values() {
            for (at, entry) in held.iter().enumerate() {
                if let Some(entry) = entry {
                    *events.entry(entry.rix).or_default() |= 1 << at;
                }
            }
        }
        events
    }
}
