//! A room's state as a persistent tree over dense slots.
//!
//! A state is the number of its root node; [`EMPTY`] is the state with nothing in it. Each (type, state key) of a room has a slot, and
//! the tree is a radix array of fan-out 32 over the slots, one part for members (slots with the high bit) and one for the rest.
//! Changing a state copies the nodes on the path and shares all others:
//!
//! ```text
//!          root            counts, fingerprint, `partial`
//!         /    \
//!     rest      members
//!              /   |   \      inner nodes: child, highest event number below it
//!            leaf leaf leaf   leaves: event number and membership of 32 slots
//! ```
//!
//! Nothing here reads the store. Functions ask a [`NodeSource`] for nodes; what it doesn't hold they report all together as
//! [`TreeError::Missing`], and the caller loads those and calls again. The depth of the tree bounds how often: at most seven times.

mod apply;
mod codec;
mod node;
mod walk;

use std::{collections::HashMap, hash::BuildHasher, sync::Arc};

use primitives::{NodeId, Rix, Slot};
use storage::schema::rooms::Membership;

pub(crate) use apply::fingerprint;
pub use apply::{Change, NewNodes, apply, with_partial};
pub use codec::NodeCodecError;
pub use node::{Node, Root};
pub use walk::{Difference, above, diff, get, get_many, members, others, root};

/// The state with nothing in it.
pub const EMPTY: NodeId = NodeId(0);

/// The first slot of members.
pub const FIRST_MEMBER_SLOT: Slot = Slot(1 << 31);

/// Whether a slot is a member's.
pub fn is_member_slot(slot: Slot) -> bool {
    slot >= FIRST_MEMBER_SLOT
}

/// What a slot holds in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The state event.
    pub rix: Rix,
    /// The membership that it sets, in a member's slot.
    pub membership: Option<Membership>,
}

/// Where tree nodes come from: a cache, or the set that the caller has loaded so far.
pub trait NodeSource {
    /// The node of that number; `None` if it is not at hand.
    fn node(&self, id: NodeId) -> Option<Arc<Node>>;
}

impl<S: BuildHasher> NodeSource for HashMap<NodeId, Arc<Node>, S> {
    fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.get(&id).cloned()
    }
}

impl<T: NodeSource + ?Sized> NodeSource for &T {
    fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        (**self).node(id)
    }
}

/// Why a state could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The source doesn't hold these nodes. Load them all and call again.
    #[error("{} tree nodes are not loaded", .0.len())]
    Missing(Vec<NodeId>),
    /// A node is of another kind than its place asks for: the number is wrong or the store corrupt.
    #[error("tree node {0} is of the wrong kind")]
    Shape(NodeId),
}

#[cfg(test)]
mod tests;
