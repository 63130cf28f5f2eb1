//! Changing a state: path copying.

use std::sync::Arc;

use primitives::{KeyedHash, NodeId, Rix, Slot};
use storage::schema::rooms::Membership;

use super::{
    EMPTY, Entry, FIRST_MEMBER_SLOT, NodeSource, TreeError,
    node::{Child, Inner, Leaf, Node, Root, Subtree, capacity, index_of, place},
    walk::{Faults, root_of},
};

/// A slot's new event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The slot.
    pub slot: Slot,
    /// Its event from now on; 0 empties the slot.
    pub rix: Rix,
    /// The membership that the event sets, in a member's slot.
    pub membership: Option<Membership>,
}

/// Nodes made by changes, to be stored with whatever refers to them, and the counter that numbers them.
#[derive(Clone, Debug)]
pub struct NewNodes {
    next: NodeId,
    nodes: Vec<(NodeId, Arc<Node>)>,
}

impl NewNodes {
    /// No nodes yet; the first one made gets the number `next` (at least 1).
    pub fn new(next: NodeId) -> Self {
        Self { next: next.max(NodeId(1)), nodes: vec![] }
    }

    /// The number that the next node gets: the room's counter to store.
    pub fn next(&self) -> NodeId {
        self.next
    }

    /// The nodes made so far, in the order of their numbers. Some may be replaced by later changes and belong to no state that is kept.
    pub fn nodes(&self) -> &[(NodeId, Arc<Node>)] {
        &self.nodes
    }

    /// Takes the nodes out; the counter goes on.
    pub fn take(&mut self) -> Vec<(NodeId, Arc<Node>)> {
        std::mem::take(&mut self.nodes)
    }

    fn add(&mut self, node: Node) -> NodeId {
        let id = self.next;
        self.next = NodeId(id.0.checked_add(1).expect("a room has fewer than 2³² tree nodes"));
        self.nodes.push((id, Arc::new(node)));
        id
    }

    fn find(&self, id: NodeId) -> Option<Arc<Node>> {
        let at = self.nodes.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.nodes[at].1.clone())
    }
}

/// The state that `root` becomes by the changes. Of several changes of one slot the last counts. If nothing changes it is `root`
/// itself. Nodes that `out` holds from earlier calls count as loaded. On an error `out` is as before.
pub fn apply(
    source: &impl NodeSource,
    root: NodeId,
    changes: &[Change],
    key: &KeyedHash,
    out: &mut NewNodes,
) -> Result<NodeId, TreeError> {
    let mut changes = changes.to_vec();
    changes.reverse();
    changes.sort_by_key(|change| change.slot);
    changes.dedup_by_key(|change| change.slot);
    let split = changes.partition_point(|change| change.slot < FIRST_MEMBER_SLOT);

    let (next, kept) = (out.next, out.nodes.len());
    let mut edit = Edit { source, faults: Faults::default(), key, out, root: Root::default() };
    let old = edit.root(root)?;
    edit.root = old.clone();
    let others = edit.part(old.others, &changes[..split]);
    let members = edit.part(old.members, &changes[split..]);
    let Edit { faults, root: now, out, .. } = edit;
    if let Err(error) = faults.into_result() {
        out.nodes.truncate(kept);
        out.next = next;
        return Err(error);
    }
    let now = Root { others, members, ..now };
    Ok(if now == old { root } else { out.add(Node::Root(now)) })
}

/// The same state marked as partial or as complete.
pub fn with_partial(
    source: &impl NodeSource,
    root: NodeId,
    partial: bool,
    out: &mut NewNodes,
) -> Result<NodeId, TreeError> {
    let made = out.find(root);
    let old = made.map_or_else(|| super::walk::root(source, root), |node| root_of(root, &node))?;
    Ok(if old.partial == partial { root } else { out.add(Node::Root(Root { partial, ..old })) })
}

/// What one slot adds to its state's fingerprint.
pub(crate) fn fingerprint(key: &KeyedHash, slot: Slot, rix: Rix) -> u128 {
    u128::from_le_bytes(key.hash16(&[&slot.0.to_be_bytes(), &rix.0.to_be_bytes()]))
}

/// A change of one state under way.
struct Edit<'a, S> {
    source: &'a S,
    faults: Faults,
    key: &'a KeyedHash,
    out: &'a mut NewNodes,
    /// The old root with fingerprint and counts brought up to date.
    root: Root,
}

/// Below an empty place.
const NOTHING: Child = Child { node: EMPTY, highest: Rix(0) };

impl<S: NodeSource> Edit<'_, S> {
    fn root(&self, root: NodeId) -> Result<Root, TreeError> {
        let made = self.out.find(root);
        made.map_or_else(|| super::walk::root(self.source, root), |node| root_of(root, &node))
    }

    fn load(&mut self, id: NodeId) -> Option<Arc<Node>> {
        let node = self.out.find(id).or_else(|| self.source.node(id));
        self.faults.note(id, node)
    }

    fn part(&mut self, old: Subtree, changes: &[Change]) -> Subtree {
        let top = changes.iter().rev().find(|change| change.rix.0 != 0).map(|change| u64::from(index_of(change.slot)));
        let (mut child, mut height) = (Child { node: old.node, highest: old.highest }, old.height);
        while top.is_some_and(|top| top >= capacity(height)) {
            if child.node != EMPTY {
                child.node = self.out.add(Node::Inner(Inner { present: 1, children: vec![child] }));
            }
            height += 1;
        }
        let end = changes.partition_point(|change| u64::from(index_of(change.slot)) < capacity(height));
        let now = self.node(child, height, &changes[..end]);
        Subtree { node: now.node, highest: now.highest, height }
    }

    /// Applies the changes, at least one, to the node of that height. Gives the old node if they change nothing.
    fn node(&mut self, old: Child, height: u32, changes: &[Change]) -> Child {
        if changes.is_empty() {
            return old;
        }
        let node = if old.node == EMPTY { None } else { self.load(old.node) };
        match (node.as_deref(), height) {
            (None, _) if old.node != EMPTY => old,
            (None, 0) => self.leaf(old, Leaf::default(), changes),
            (None, _) => self.inner(old, Inner::default(), height, changes),
            (Some(Node::Leaf(leaf)), 0) => self.leaf(old, leaf.clone(), changes),
            (Some(Node::Inner(inner)), 1..) => self.inner(old, inner.clone(), height, changes),
            _ => {
                self.faults.shape(old.node);
                old
            }
        }
    }

    fn inner(&mut self, old: Child, mut inner: Inner, height: u32, changes: &[Change]) -> Child {
        let place_of = |change: &Change| place(index_of(change.slot), height);
        let mut differs = false;
        for group in changes.chunk_by(|a, b| place_of(a) == place_of(b)) {
            let at = place_of(&group[0]);
            let before = inner.get(at).unwrap_or(NOTHING);
            let child = self.node(before, height - 1, group);
            if child != before {
                differs = true;
                inner.set(at, (child.node != EMPTY).then_some(child));
            }
        }
        if !differs {
            return old;
        }
        if inner.children.is_empty() {
            return NOTHING;
        }
        let highest = inner.highest();
        Child { node: self.out.add(Node::Inner(inner)), highest }
    }

    fn leaf(&mut self, old: Child, mut leaf: Leaf, changes: &[Change]) -> Child {
        let mut differs = false;
        for change in changes {
            let at = place(index_of(change.slot), 0);
            let before = leaf.get(at);
            let now = (change.rix.0 != 0).then_some(Entry { rix: change.rix, membership: change.membership });
            if before != now {
                differs = true;
                self.account(change.slot, before, now);
                leaf.set(at, now);
            }
        }
        if !differs {
            return old;
        }
        if leaf.entries.is_empty() {
            return NOTHING;
        }
        let highest = leaf.highest();
        Child { node: self.out.add(Node::Leaf(leaf)), highest }
    }

    /// Keeps fingerprint and counts in step with one slot.
    fn account(&mut self, slot: Slot, before: Option<Entry>, now: Option<Entry>) {
        let hash = |entry: Entry| fingerprint(self.key, slot, entry.rix);
        if let Some(entry) = before {
            self.root.fingerprint = self.root.fingerprint.wrapping_sub(hash(entry));
        }
        if let Some(entry) = now {
            self.root.fingerprint = self.root.fingerprint.wrapping_add(hash(entry));
        }
        for (membership, count) in
            [(Membership::Join, &mut self.root.joined), (Membership::Invite, &mut self.root.invited)]
        {
            let is = |entry: Option<Entry>| u32::from(entry.is_some_and(|entry| entry.membership == Some(membership)));
            *count = *count + is(now) - is(before);
        }
    }
}
