//! An environment in plain maps: what a caller has loaded for one resolution.

use std::{collections::HashMap, sync::Arc};

use primitives::{NodeId, Rix, Slot};
use ruma::{EventId, OwnedEventId};

use super::{AuthPage, Env};
use crate::{
    Pdu,
    state::{Node, NodeSource},
};

/// Everything loaded so far. Fill it with what [`super::Needs`] names.
#[derive(Debug, Default)]
pub struct Prefetched {
    nodes: HashMap<NodeId, Arc<Node>>,
    slots: HashMap<(String, String), Option<Slot>>,
    events: HashMap<Rix, Pdu>,
    ids: HashMap<OwnedEventId, Option<Rix>>,
    pages: HashMap<u32, Arc<AuthPage>>,
}

impl Prefetched {
    /// Adds a tree node.
    pub fn add_node(&mut self, id: NodeId, node: Arc<Node>) {
        self.nodes.insert(id, node);
    }

    /// Adds the slot of a type and state key, or that there is none.
    pub fn add_slot(&mut self, kind: &str, state_key: &str, slot: Option<Slot>) {
        self.slots.insert((kind.to_owned(), state_key.to_owned()), slot);
    }

    /// Adds an event with its verdict.
    pub fn add_event(&mut self, rix: Rix, pdu: Pdu) {
        self.ids.insert(pdu.event_id().clone(), Some(rix));
        self.events.insert(rix, pdu);
    }

    /// Adds that the room has no event of that id.
    pub fn add_unknown_event(&mut self, id: OwnedEventId) {
        self.ids.insert(id, None);
    }

    /// Adds a page of auth edges; an empty one if none is stored.
    pub fn add_auth_page(&mut self, page: u32, edges: Arc<AuthPage>) {
        self.pages.insert(page, edges);
    }
}

impl NodeSource for Prefetched {
    fn node(&self, id: NodeId) -> Option<Arc<Node>> {
        self.nodes.get(&id).cloned()
    }
}

impl Env for Prefetched {
    fn slot(&self, kind: &str, state_key: &str) -> Option<Option<Slot>> {
        self.slots.get(&(kind.to_owned(), state_key.to_owned())).copied()
    }

    fn event(&self, rix: Rix) -> Option<Pdu> {
        self.events.get(&rix).cloned()
    }

    fn event_by_id(&self, id: &EventId) -> Option<Option<(Rix, Pdu)>> {
        self.ids.get(id).map(|rix| rix.and_then(|rix| Some((rix, self.events.get(&rix)?.clone()))))
    }

    fn auth_page(&self, page: u32) -> Option<Arc<AuthPage>> {
        self.pages.get(&page).cloned()
    }
}
