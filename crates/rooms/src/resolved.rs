//! The state that several states make together: state resolution over the store.
//!
//! The algorithm runs on a blocking thread over what has been loaded for it; what it misses is loaded here, and it goes on.

use std::sync::Arc;

use primitives::NodeId;
use storage::{
    ReadError,
    schema::rooms::{AuthPages, SlotKey, StateNodes},
};

use crate::{
    change::Change,
    load::corrupt,
    resolve::{AuthPage, Delta, Needs, Prefetched, ResolveError, Resolver},
    state::{self, Entry},
};

/// How often a resolution may ask for more before it counts as endless.
const MAX_ROUNDS: usize = 10_000;

impl Change {
    /// The state that the states after some events make together.
    pub(crate) async fn resolved(&mut self, roots: &[NodeId]) -> Result<NodeId, ReadError> {
        let mut roots = roots.to_vec();
        roots.sort_unstable();
        roots.dedup();
        match roots[..] {
            [] => Ok(state::EMPTY),
            [root] => Ok(root),
            _ => {
                if self.is_partial() {
                    self.fill(&mut roots).await?;
                }
                let delta = self.run_resolver(&roots).await?;
                self.apply_delta(delta).await
            }
        }
    }

    /// Members whom a partial state doesn't hold are unknown: the other states are asked for them, or every member whom one of them holds would be in conflict.
    async fn fill(&mut self, roots: &mut [NodeId]) -> Result<(), ReadError> {
        let (mut fullest, mut most) = (roots[0], 0);
        for &root in &*roots {
            let joined = self.trees.run(|source| state::root(&source, root)).await?.joined;
            if joined > most {
                (fullest, most) = (root, joined);
            }
        }
        let key = self.context.storage.hash();
        for root in roots.iter_mut().filter(|root| **root != fullest) {
            let lacking = self.trees.diff(*root, fullest).await?.into_iter();
            let lacking = lacking.filter(|one| one.before.is_none() && state::is_member_slot(one.slot));
            let members = lacking.filter_map(|one| {
                let Entry { rix, membership } = one.after?;
                Some(state::Change { slot: one.slot, rix, membership })
            });
            *root = self.trees.apply(*root, &members.collect::<Vec<_>>(), &key).await?;
        }
        Ok(())
    }

    async fn run_resolver(&mut self, roots: &[NodeId]) -> Result<Delta, ReadError> {
        let mut resolver = Resolver::new(self.memory.info.version, roots);
        let mut env = Prefetched::default();
        for _ in 0..MAX_ROUNDS {
            let run = tokio::task::spawn_blocking(move || {
                let outcome = resolver.run(&env);
                (resolver, env, outcome)
            });
            let outcome;
            (resolver, env, outcome) = run.await.map_err(|error| ReadError::Engine(error.to_string()))?;
            match outcome {
                Ok(delta) => return Ok(delta),
                Err(ResolveError::Missing(needs)) => self.fetch(*needs, &mut env).await?,
                Err(error) => return Err(corrupt::<StateNodes>(error.to_string())),
            }
        }
        Err(corrupt::<StateNodes>("a state resolution has no end"))
    }

    async fn fetch(&mut self, needs: Needs, env: &mut Prefetched) -> Result<(), ReadError> {
        let nodes: Vec<_> = needs.nodes.into_iter().collect();
        for (id, node) in self.trees.nodes(&nodes).await? {
            env.add_node(id, node);
        }
        for (event_type, state_key) in needs.slots {
            let key = SlotKey { event_type, state_key };
            let slot = self.find_slot(&key).await?;
            env.add_slot(&key.event_type, &key.state_key, slot);
        }
        for rix in needs.events {
            env.add_event(rix, self.event(rix).await?.pdu);
        }
        for id in needs.event_ids {
            match self.find(&id).await? {
                Some(rix) => env.add_event(rix, self.event(rix).await?.pdu),
                None => env.add_unknown_event(id),
            }
        }
        for page in needs.auth_pages {
            env.add_auth_page(page, self.auth_page(page).await?);
        }
        Ok(())
    }

    async fn apply_delta(&mut self, mut delta: Delta) -> Result<NodeId, ReadError> {
        for unplaced in std::mem::take(&mut delta.unplaced) {
            let key = SlotKey { event_type: unplaced.kind, state_key: unplaced.state_key };
            let slot = self.slot(&key).await?;
            delta.changes.push(state::Change { slot, rix: unplaced.rix, membership: unplaced.membership });
        }
        let key = self.context.storage.hash();
        self.trees.change(|source, new| delta.apply(&source, &key, new)).await
    }

    /// A page of the room's auth edges, as this change leaves it.
    pub(crate) async fn auth_page(&mut self, page: u32) -> Result<Arc<AuthPage>, ReadError> {
        if let Some(known) = self.memory.auth_pages.get(&page) {
            return Ok(Arc::clone(known));
        }
        let row = match &self.memory.stored {
            Some(_) => self.view.get::<AuthPages>(&(self.memory.info.nid, page)).await?,
            None => None,
        };
        let decode =
            |bytes: &[u8]| AuthPage::decode(page, bytes).map_err(|error| corrupt::<AuthPages>(error.to_string()));
        let edges = row.map(|row| decode(&row.0)).transpose()?.unwrap_or_default();
        let edges = Arc::new(edges);
        self.memory.auth_pages.insert(page, Arc::clone(&edges));
        Ok(edges)
    }
}
