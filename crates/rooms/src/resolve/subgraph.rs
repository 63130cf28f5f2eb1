//! The conflicted state subgraph (room version 12): every event on a path of auth edges between two state events in conflict.

use std::collections::{BTreeMap, BTreeSet};

use primitives::Rix;

use super::{AuthPage, Env, Needs, conflicts::Conflicts};

/// The walk down from the events in conflict, and how far it has come.
#[derive(Debug)]
pub(super) struct Subgraph {
    conflicted: BTreeSet<Rix>,
    /// The lowest event in conflict: no path goes below it.
    floor: Rix,
    /// Events reached whose edges have not been followed.
    open: BTreeSet<Rix>,
    /// The auth events, from the floor up, of each event reached.
    edges: BTreeMap<Rix, Vec<Rix>>,
}

impl Subgraph {
    /// A walk that has not begun.
    pub(super) fn new(conflicts: &Conflicts) -> Self {
        let conflicted: BTreeSet<_> = conflicts.events().into_keys().collect();
        let floor = conflicted.first().copied().unwrap_or_default();
        Self { open: conflicted.clone(), conflicted, floor, edges: BTreeMap::new() }
    }

    /// Goes on until everything is reached or pages are needed.
    pub(super) fn run(&mut self, env: &impl Env, needs: &mut Needs) {
        let mut waiting = BTreeSet::new();
        while let Some(rix) = self.open.pop_last() {
            let Some(page) = env.auth_page(AuthPage::of(rix)) else {
                needs.auth_pages.insert(AuthPage::of(rix));
                waiting.insert(rix);
                continue;
            };
            let auth: Vec<_> = page.get(rix).iter().copied().filter(|auth| *auth >= self.floor).collect();
            self.open.extend(auth.iter().filter(|auth| !self.edges.contains_key(auth)));
            self.edges.insert(rix, auth);
        }
        self.open = waiting;
    }

    /// The subgraph, once a run has needed nothing. Before any run it is empty.
    pub(super) fn events(&self) -> BTreeSet<Rix> {
        let mut leads_to_conflict = BTreeSet::new();
        for (rix, auth) in &self.edges {
            if self.conflicted.contains(rix) || auth.iter().any(|auth| leads_to_conflict.contains(auth)) {
                leads_to_conflict.insert(*rix);
            }
        }
        leads_to_conflict
    }
}
