//! State resolution: one state out of the states of a forked room (specification, each room version, "State resolution").
//!
//! Nothing here holds a whole state. Tree differences give the keys in conflict; one sweep over the auth edges, from high event
//! numbers to low, gives the auth difference; and the algorithm runs on *slices*: the part of each state that it can look at. Room
//! version 1 has its own algorithm, over slices too.
//!
//! Nothing here reads the store either. A [`Resolver`] asks an [`Env`] for what it needs. What is not at hand it reports all together
//! as [`ResolveError::Missing`]; the caller loads that and calls [`Resolver::run`] again, which goes on where it stopped:
//!
//! ```text
//! loop { match resolver.run(&env) { Err(Missing(needs)) => load(needs), outcome => break outcome } }
//! ```

mod conflicts;
mod owned_keys;
mod pages;
mod prefetched;
mod subgraph;
mod sweep;
mod v1;
mod v2;

use primitives::{KeyedHash, NodeId, Rix, Slot};
use ruma::{EventId, OwnedEventId};
use std::{collections::BTreeSet, sync::Arc};
use storage::schema::rooms::Membership;

pub use pages::{AuthPage, AuthPageError, PAGE};
pub use prefetched::Prefetched;

use crate::{
    Pdu, RoomVersion,
    state::{self, Change, Entry, NewNodes, NodeSource, TreeError},
    version::Resolution,
};
use conflicts::Conflicts;
use subgraph::Subgraph;
use sweep::Sweep;

/// The most states that are resolved at once: a bit of a word for each. A room has no more forward extremities.
pub const MAX_SETS: usize = 64;

/// Where resolution finds a room's trees, slots, events and auth edges. In each answer the outer `None` says "not loaded".
pub trait Env: NodeSource {
    /// The slot of a type and state key; the inner `None` says that the room has none.
    fn slot(&self, kind: &str, state_key: &str) -> Option<Option<Slot>>;

    /// The event of that number, with its verdict ([`Pdu::with_rejected`]).
    fn event(&self, rix: Rix) -> Option<Pdu>;

    /// The event of that id and its number; the inner `None` says that the room has none.
    fn event_by_id(&self, id: &EventId) -> Option<Option<(Rix, Pdu)>>;

    /// The auth edges of the [`PAGE`] events from number `page * PAGE` on.
    fn auth_page(&self, page: u32) -> Option<Arc<AuthPage>>;
}

/// What the [`Env`] was asked for and did not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Tree nodes.
    pub nodes: BTreeSet<NodeId>,
    /// Slots of types and state keys.
    pub slots: BTreeSet<(String, String)>,
    /// Events by number.
    pub events: BTreeSet<Rix>,
    /// Events by id.
    pub event_ids: BTreeSet<OwnedEventId>,
    /// Pages of auth edges.
    pub auth_pages: BTreeSet<u32>,
}

impl Needs {
    /// Whether nothing was missing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Notes the nodes that a tree function missed and gives its value if there were none.
    fn tree<T>(&mut self, result: Result<T, TreeError>) -> Result<Option<T>, ResolveError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(TreeError::Missing(nodes)) => {
                self.nodes.extend(nodes);
                Ok(None)
            }
            Err(error @ TreeError::Shape(_)) => Err(ResolveError::Tree(error)),
        }
    }

    fn into_error(self) -> ResolveError {
        ResolveError::Missing(Box::new(self))
    }
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The environment lacks something. Load it and run again.
    #[error("not everything that is needed is loaded")]
    Missing(Box<Needs>),
    /// More states than [`MAX_SETS`], or none.
    #[error("{0} states cannot be resolved at once")]
    Sets(usize),
    /// A state tree is not what it should be.
    #[error(transparent)]
    Tree(TreeError),
    /// The algorithm itself failed: an event in it is not what an accepted event can be.
    #[error("state resolution failed: {0}")]
    Algorithm(String),
}

/// What resolution changes in one of the states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The state that the changes start from: one of those given.
    pub base: NodeId,
    /// What becomes of slots.
    pub changes: Vec<Change>,
    /// What becomes of keys that have no slot yet. The caller gives them slots and adds them to the changes.
    pub unplaced: Vec<Unplaced>,
    /// Whether any of the states was partial: so is the outcome.
    pub partial: bool,
}

/// A state event that the outcome holds under a key that never was in a state before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// The type.
    pub kind: String,
    /// The state key.
    pub state_key: String,
    /// The event.
    pub rix: Rix,
    /// The membership that it sets.
    pub membership: Option<Membership>,
}

impl Delta {
    /// The outcome as a state, once nothing is [`Delta::unplaced`] any more.
    pub fn apply(&self, source: &impl NodeSource, key: &KeyedHash, out: &mut NewNodes) -> Result<NodeId, TreeError> {
        let root = state::apply(source, self.base, &self.changes, key, out)?;
        if self.partial { state::with_partial(source, root, true, out) } else { Ok(root) }
    }

    fn nothing(base: NodeId, partial: bool) -> Self {
        Self { base, changes: vec![], unplaced: vec![], partial }
    }

    /// Notes what a key becomes: `now` where the base has `before`.
    fn push(&mut self, slot: Option<Slot>, before: Option<Rix>, now: Option<(Rix, &Pdu)>) {
        match (slot, now) {
            _ if before == now.map(|(rix, _)| rix) => {}
            (Some(slot), Some((rix, pdu))) => self.changes.push(Change { slot, rix, membership: pdu.membership() }),
            (Some(slot), None) => self.changes.push(Change { slot, rix: Rix(0), membership: None }),
            (None, Some((rix, pdu))) => self.unplaced.push(Unplaced {
                kind: pdu.kind().to_owned(),
                state_key: pdu.state_key().unwrap_or_default().to_owned(),
                rix,
                membership: pdu.membership(),
            }),
            (None, None) => {}
        }
    }
}

/// A resolution under way.
#[derive(Debug)]
pub struct Resolver {
    version: RoomVersion,
    roots: Vec<NodeId>,
    conflicts: Option<Conflicts>,
    sweep: Option<Sweep>,
    subgraph: Option<Subgraph>,
    first_step: u32,
}

impl Resolver {
    /// The resolution of those states, given by their roots in any order. All belong to one room of that version.
    pub fn new(version: RoomVersion, roots: &[NodeId]) -> Self {
        Self {
            version,
            roots: roots.to_vec(),
            conflicts: None,
            sweep: None,
            subgraph: None,
            first_step: sweep::FIRST_STEP,
        }
    }

    /// Goes on until there is an outcome or something is missing.
    pub fn run(&mut self, env: &impl Env) -> Result<Delta, ResolveError> {
        let conflicts = match self.conflicts.take() {
            Some(conflicts) => conflicts,
            None => Conflicts::find(env, &self.roots)?,
        };
        let outcome = self.resolve(env, &conflicts);
        self.conflicts = Some(conflicts);
        outcome
    }

    fn resolve(&mut self, env: &impl Env, conflicts: &Conflicts) -> Result<Delta, ResolveError> {
        if conflicts.slots.is_empty() {
            return Ok(Delta::nothing(conflicts.base, conflicts.partial));
        }
        if self.version.resolution() == Resolution::V1 {
            return v1::resolve(env, conflicts);
        }
        let mut needs = Needs::default();
        let sweep = self.sweep.get_or_insert_with(|| Sweep::new(conflicts, self.first_step));
        sweep.run(env, conflicts, &mut needs)?;
        let subgraph = self.subgraph.get_or_insert_with(|| Subgraph::new(conflicts));
        if self.version.resolution() == Resolution::V2_1 {
            subgraph.run(env, &mut needs);
        }
        if !needs.is_empty() {
            return Err(needs.into_error());
        }
        v2::resolve(self.version, env, conflicts, sweep.difference(), &subgraph.events())
    }
}

/// Resolves states in one call, for an environment that has everything or a caller that starts anew each time.
pub fn resolve(version: RoomVersion, roots: &[NodeId], env: &impl Env) -> Result<Delta, ResolveError> {
    Resolver::new(version, roots).run(env)
}

/// The event of an entry, if there is one.
fn rix_of(entry: Option<Entry>) -> Option<Rix> {
    entry.map(|entry| entry.rix)
}

#[cfg(test)]
mod tests;
