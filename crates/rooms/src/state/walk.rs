//! Reading states: look-ups, listings, differences.

use std::sync::Arc;

use primitives::{NodeId, Rix, Slot};

use super::{
    EMPTY, Entry, FIRST_MEMBER_SLOT, NodeSource, TreeError,
    node::{Child, Inner, Leaf, Node, Root, Subtree, capacity, place},
};

/// A slot that two states hold differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The slot.
    pub slot: Slot,
    /// What the first state holds.
    pub before: Option<Entry>,
    /// What the second state holds.
    pub after: Option<Entry>,
}

/// What went wrong in a walk, which goes on beside it so that all missing nodes are found at once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    missing: Vec<NodeId>,
    shape: Option<NodeId>,
}

impl Faults {
    /// Passes a node on, or notes that it is missing.
    pub(super) fn note(&mut self, id: NodeId, node: Option<Arc<Node>>) -> Option<Arc<Node>> {
        if node.is_none() {
            self.missing.push(id);
        }
        node
    }

    /// Notes a node of the wrong kind.
    pub(super) fn shape(&mut self, id: NodeId) {
        self.shape = Some(id);
    }

    pub(super) fn into_result(mut self) -> Result<(), TreeError> {
        if let Some(id) = self.shape {
            return Err(TreeError::Shape(id));
        }
        self.missing.sort_unstable();
        self.missing.dedup();
        if self.missing.is_empty() { Ok(()) } else { Err(TreeError::Missing(self.missing)) }
    }
}

pub(super) fn root_of(id: NodeId, node: &Node) -> Result<Root, TreeError> {
    match node {
        Node::Root(root) => Ok(root.clone()),
        _ => Err(TreeError::Shape(id)),
    }
}

/// What is known of a state as a whole. Of [`EMPTY`]: nothing joined, nothing invited, complete.
pub fn root(source: &impl NodeSource, root: NodeId) -> Result<Root, TreeError> {
    if root == EMPTY {
        return Ok(Root::default());
    }
    let node = source.node(root).ok_or_else(|| TreeError::Missing(vec![root]))?;
    root_of(root, &node)
}

/// What a slot holds.
pub fn get(source: &impl NodeSource, root: NodeId, slot: Slot) -> Result<Option<Entry>, TreeError> {
    Ok(get_many(source, root, &[slot])?[0])
}

/// What each of the slots holds, in their order.
pub fn get_many(source: &impl NodeSource, root: NodeId, slots: &[Slot]) -> Result<Vec<Option<Entry>>, TreeError> {
    let root = self::root(source, root)?;
    let mut walk = Walk { source, faults: Faults::default() };
    let found = slots.iter().map(|slot| {
        let (part, index) = root.part(*slot);
        walk.find(part, index)
    });
    let found = found.collect();
    walk.faults.into_result().map(|()| found)
}

/// The slots of members with what they hold, in order; only the memberships that pass.
pub fn members(
    source: &impl NodeSource,
    root: NodeId,
    keep: impl Fn(Entry) -> bool,
) -> Result<Vec<(Slot, Entry)>, TreeError> {
    let part = self::root(source, root)?.members;
    collect(source, |walk, out| {
        walk.list(part, FIRST_MEMBER_SLOT.0, Rix(0), &mut |slot, entry| {
            if keep(entry) {
                out.push((slot, entry));
            }
        });
    })
}

/// The slots other than members with what they hold, in order.
pub fn others(source: &impl NodeSource, root: NodeId) -> Result<Vec<(Slot, Entry)>, TreeError> {
    let part = self::root(source, root)?.others;
    collect(source, |walk, out| walk.list(part, 0, Rix(0), &mut |slot, entry| out.push((slot, entry))))
}

/// Every slot, members too, whose event has a number above `rix`, in order. Reads no node that holds none.
pub fn above(source: &impl NodeSource, root: NodeId, rix: Rix) -> Result<Vec<(Slot, Entry)>, TreeError> {
    let root = self::root(source, root)?;
    collect(source, |walk, out| {
        for (part, base) in [(root.others, 0), (root.members, FIRST_MEMBER_SLOT.0)] {
            walk.list(part, base, rix, &mut |slot, entry| out.push((slot, entry)));
        }
    })
}

/// The slots that two states hold differently, in order. Reads no node that they share.
pub fn diff(source: &impl NodeSource, before: NodeId, after: NodeId) -> Result<Vec<Difference>, TreeError> {
    if before == after {
        return Ok(vec![]);
    }
    let (before, after) = match (root(source, before), root(source, after)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(TreeError::Missing(a)), Err(TreeError::Missing(b))) => return Err(TreeError::Missing([a, b].concat())),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    collect(source, |walk, out| {
        walk.differ(Side::of(before.others), Side::of(after.others), 0, out);
        walk.differ(Side::of(before.members), Side::of(after.members), FIRST_MEMBER_SLOT.0, out);
    })
}

fn collect<'a, S: NodeSource, T>(
    source: &'a S,
    run: impl FnOnce(&mut Walk<'a, S>, &mut Vec<T>),
) -> Result<Vec<T>, TreeError> {
    let mut walk = Walk { source, faults: Faults::default() };
    let mut out = vec![];
    run(&mut walk, &mut out);
    walk.faults.into_result().map(|()| out)
}

/// One side of a comparison: a node and its height.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Side {
    node: NodeId,
    height: u32,
}

impl Side {
    fn of(part: Subtree) -> Self {
        Self { node: part.node, height: part.height }
    }

    /// The child at a place. A side that is lower than the comparison stands below its first place.
    fn child(self, inner: Option<&Inner>, place: u32, height: u32) -> Self {
        if self.node == EMPTY || self.height == height {
            let child = inner.and_then(|inner| inner.get(place));
            Self { node: child.map_or(EMPTY, |child| child.node), height: height - 1 }
        } else if place == 0 {
            self
        } else {
            Self { node: EMPTY, height: height - 1 }
        }
    }
}

/// A node was of the wrong kind, and has been noted.
struct WrongKind;

struct Walk<'a, S> {
    source: &'a S,
    faults: Faults,
}

impl<S: NodeSource> Walk<'_, S> {
    fn load(&mut self, id: NodeId) -> Option<Arc<Node>> {
        if id == EMPTY {
            return None;
        }
        self.faults.note(id, self.source.node(id))
    }

    fn find(&mut self, part: Subtree, index: u32) -> Option<Entry> {
        if u64::from(index) >= capacity(part.height) {
            return None;
        }
        let (mut id, mut height) = (part.node, part.height);
        loop {
            match (&*self.load(id)?, height) {
                (Node::Leaf(leaf), 0) => return leaf.get(place(index, 0)),
                (Node::Inner(inner), 1..) => {
                    id = inner.get(place(index, height))?.node;
                    height -= 1;
                }
                _ => {
                    self.faults.shape(id);
                    return None;
                }
            }
        }
    }

    /// Calls `visit` for every slot of a part whose event has a number above `rix`.
    fn list(&mut self, part: Subtree, base: u32, rix: Rix, visit: &mut impl FnMut(Slot, Entry)) {
        if part.highest > rix {
            self.list_node(Child { node: part.node, highest: part.highest }, part.height, base, rix, visit);
        }
    }

    fn list_node(&mut self, child: Child, height: u32, base: u32, rix: Rix, visit: &mut impl FnMut(Slot, Entry)) {
        let Some(node) = self.load(child.node) else { return };
        match (&*node, height) {
            (Node::Leaf(leaf), 0) => {
                for (place, entry) in leaf.iter().filter(|(_, entry)| entry.rix > rix) {
                    visit(Slot(base | place), entry);
                }
            }
            (Node::Inner(inner), 1..) => {
                for (place, child) in inner.iter().filter(|(_, child)| child.highest > rix) {
                    self.list_node(child, height - 1, base | offset(place, height), rix, visit);
                }
            }
            _ => self.faults.shape(child.node),
        }
    }

    fn differ(&mut self, before: Side, after: Side, base: u32, out: &mut Vec<Difference>) {
        if before.node == after.node {
            return;
        }
        let height = before.height.max(after.height);
        // What is lower than the comparison is not read yet.
        let (mut old, mut new) = (None, None);
        for (side, node) in [(before, &mut old), (after, &mut new)] {
            if side.node != EMPTY && side.height == height {
                *node = self.load(side.node);
                if node.is_none() {
                    return self.load_other(side, before, after);
                }
            }
        }
        if height == 0 {
            return self.differ_leaves((before, old.as_deref()), (after, new.as_deref()), base, out);
        }
        let (Ok(old), Ok(new)) = (self.as_inner(before, old.as_deref()), self.as_inner(after, new.as_deref())) else {
            return;
        };
        let mut taken = old.map_or(0, |inner| inner.present) | new.map_or(0, |inner| inner.present);
        if before.height != after.height {
            taken |= 1;
        }
        for place in super::node::places(taken) {
            let sides = (before.child(old, place, height), after.child(new, place, height));
            self.differ(sides.0, sides.1, base | offset(place, height), out);
        }
    }

    /// One side could not be read: asks for the other too, so that one round of loading serves both.
    fn load_other(&mut self, failed: Side, before: Side, after: Side) {
        let other = if failed == before { after } else { before };
        self.load(other.node);
    }

    /// The inner node that a side is, if it is one of the comparison's height.
    fn as_inner<'n>(&mut self, side: Side, node: Option<&'n Node>) -> Result<Option<&'n Inner>, WrongKind> {
        match node {
            None => Ok(None),
            Some(Node::Inner(inner)) => Ok(Some(inner)),
            Some(_) => {
                self.faults.shape(side.node);
                Err(WrongKind)
            }
        }
    }

    fn differ_leaves(
        &mut self,
        (before, old): (Side, Option<&Node>),
        (after, new): (Side, Option<&Node>),
        base: u32,
        out: &mut Vec<Difference>,
    ) {
        let empty = Leaf::default();
        let mut leaves = [&empty, &empty];
        for (at, (side, node)) in [(before, old), (after, new)].into_iter().enumerate() {
            match node {
                None => {}
                Some(Node::Leaf(leaf)) => leaves[at] = leaf,
                Some(_) => return self.faults.shape(side.node),
            }
        }
        for place in super::node::places(leaves[0].present | leaves[1].present) {
            let (before, after) = (leaves[0].get(place), leaves[1].get(place));
            if before != after {
                out.push(Difference { slot: Slot(base | place), before, after });
            }
        }
    }
}

/// How far the slots below a place are from the node's first.
fn offset(place: u32, height: u32) -> u32 {
    place << (super::node::BITS * height)
}
