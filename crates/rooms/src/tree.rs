//! State trees over the store: loads the nodes that the pure functions of [`crate::state`] ask for, and asks again.

use std::{collections::HashMap, sync::Arc};

use primitives::{KeyedHash, NodeId, Rix, RoomNid, Slot};
use quick_cache::sync::Cache;
use storage::{Batch, Raw, ReadError, View, schema::rooms::StateNodes};

use crate::{
    load::corrupt,
    state::{self, Change, Difference, Entry, NewNodes, Node, NodeSource, Root, TreeError},
};

/// Nodes of state trees, of all rooms, readers' and workers' alike: they never change.
pub type NodeCache = Cache<(RoomNid, NodeId), Arc<Node>>;

/// How often nodes are loaded for one operation before the tree counts as corrupt: more than any tree is deep.
const MAX_ROUNDS: usize = 64;

/// The stored state trees of one room.
#[derive(Clone, Debug)]
pub struct StoredTrees {
    view: View,
    room: RoomNid,
    cache: Arc<NodeCache>,
}

/// The nodes at hand: those in the cache, and those loaded for one operation, which the cache may have dropped again.
struct AtHand<'a> {
    trees: &'a StoredTrees,
    made: Option<&'a NewNodes>,
    loaded: HashMap<NodeId, Arc<Node>>,
}

impl NodeSource for AtHand<'_> {
    fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        let made = || {
            self.made.and_then(|made| made.nodes().iter().find(|(made, _)| *made == id).map(|(_, node)| node.clone()))
        };
        let loaded = self.loaded.get(&id).cloned().or_else(|| self.trees.cache.get(&(self.trees.room, id)));
        loaded.or_else(made)
    }
}

impl StoredTrees {
    /// The trees of a room as a view shows them.
    pub fn new(view: View, room: RoomNid, cache: Arc<NodeCache>) -> Self {
        Self { view, room, cache }
    }

    /// Runs a pure operation on trees, loading what it misses until it misses nothing.
    pub async fn run<T>(&self, operation: impl FnMut(&dyn NodeSource) -> Result<T, TreeError>) -> Result<T, ReadError> {
        self.run_with(None, operation).await
    }

    async fn run_with<T>(
        &self,
        made: Option<&NewNodes>,
        mut operation: impl FnMut(&dyn NodeSource) -> Result<T, TreeError>,
    ) -> Result<T, ReadError> {
        let mut source = AtHand { trees: self, made, loaded: HashMap::new() };
        for _ in 0..MAX_ROUNDS {
            match operation(&source) {
                Ok(done) => return Ok(done),
                Err(TreeError::Missing(ids)) => source.loaded.extend(self.load(&ids).await?),
                Err(error @ TreeError::Shape(_)) => return Err(corrupt::<StateNodes>(error.to_string())),
            }
        }
        Err(corrupt::<StateNodes>(format!("a tree of room {} has no end", self.room)))
    }

    async fn load(&self, ids: &[NodeId]) -> Result<Vec<(NodeId, Arc<Node>)>, ReadError> {
        let keys: Vec<_> = ids.iter().map(|id| (self.room, *id)).collect();
        let rows = self.view.multi_get::<StateNodes>(&keys).await?;
        let mut nodes = Vec::with_capacity(ids.len());
        for (id, row) in ids.iter().zip(rows) {
            let row = row.ok_or_else(|| corrupt::<StateNodes>(format!("no node {id} in room {}", self.room)))?;
            let node = Node::decode(&row.0).map_err(|error| corrupt::<StateNodes>(error.to_string()))?;
            let node = Arc::new(node);
            self.cache.insert((self.room, *id), Arc::clone(&node));
            nodes.push((*id, node));
        }
        Ok(nodes)
    }

    /// What a slot holds in a state.
    pub async fn get(&self, root: NodeId, slot: Slot) -> Result<Option<Entry>, ReadError> {
        self.run(|source| state::get(&source, root, slot)).await
    }

    /// What is known of a state as a whole.
    pub async fn root(&self, root: NodeId) -> Result<Root, ReadError> {
        self.run(|source| state::root(&source, root)).await
    }
}

/// The trees of a room and the nodes that a change adds to them.
#[derive(Clone, Debug)]
pub(crate) struct Trees {
    stored: StoredTrees,
    new: NewNodes,
}

impl Trees {
    pub(crate) fn new(view: View, room: RoomNid, cache: Arc<NodeCache>, next: NodeId) -> Self {
        Self { stored: StoredTrees::new(view, room, cache), new: NewNodes::new(next) }
    }

    /// The number of the event in a slot of a state.
    pub(crate) async fn get(&self, root: NodeId, slot: Slot) -> Result<Option<Rix>, ReadError> {
        Ok(self.entry(root, slot).await?.map(|entry| entry.rix))
    }

    /// What a slot of a state holds.
    pub(crate) async fn entry(&self, root: NodeId, slot: Slot) -> Result<Option<Entry>, ReadError> {
        self.run(|source| state::get(&source, root, slot)).await
    }

    /// The slots in which two states differ.
    pub(crate) async fn diff(&self, before: NodeId, after: NodeId) -> Result<Vec<Difference>, ReadError> {
        self.run(|source| state::diff(&source, before, after)).await
    }

    /// Runs a pure operation on the stored trees and those of this change.
    pub(crate) async fn run<T>(
        &self,
        operation: impl FnMut(&dyn NodeSource) -> Result<T, TreeError>,
    ) -> Result<T, ReadError> {
        self.stored.run_with(Some(&self.new), operation).await
    }

    /// The state that `root` becomes by the changes.
    pub(crate) async fn apply(
        &mut self,
        root: NodeId,
        changes: &[Change],
        key: &KeyedHash,
    ) -> Result<NodeId, ReadError> {
        self.change(|source, new| state::apply(&source, root, changes, key, new)).await
    }

    /// Runs a pure operation that makes nodes. It has to take its own new nodes into account: the source holds the stored ones only.
    pub(crate) async fn change<T>(
        &mut self,
        mut operation: impl FnMut(&dyn NodeSource, &mut NewNodes) -> Result<T, TreeError>,
    ) -> Result<T, ReadError> {
        let mut new = std::mem::replace(&mut self.new, NewNodes::new(NodeId(1)));
        let done = self.stored.run_with(None, |source| operation(source, &mut new)).await;
        self.new = new;
        done
    }

    /// Nodes by their numbers, stored or new.
    pub(crate) async fn nodes(&self, ids: &[NodeId]) -> Result<Vec<(NodeId, Arc<Node>)>, ReadError> {
        let (mut found, mut missing) = (Vec::with_capacity(ids.len()), Vec::new());
        let at_hand = AtHand { trees: &self.stored, made: Some(&self.new), loaded: HashMap::new() };
        for id in ids {
            match at_hand.node(*id) {
                Some(node) => found.push((*id, node)),
                None => missing.push(*id),
            }
        }
        found.extend(self.stored.load(&missing).await?);
        Ok(found)
    }

    /// Writes the new nodes.
    pub(crate) fn write(&self, batch: &mut Batch) {
        for (id, node) in self.new.nodes() {
            batch.put::<StateNodes>(&(self.stored.room, *id), &Raw(node.encode()));
        }
    }

    /// The number that the next node gets.
    pub(crate) fn next(&self) -> NodeId {
        self.new.next()
    }

    /// Lets everybody have the new nodes. Only once they are stored: a number that is not is given out again.
    pub(crate) fn publish(&self) {
        for (id, node) in self.new.nodes() {
            self.stored.cache.insert((self.stored.room, *id), Arc::clone(node));
        }
    }
}
