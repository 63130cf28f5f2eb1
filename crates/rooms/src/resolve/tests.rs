//! Slices against full inputs: random forks are resolved here and by the algorithms fed with whole states and whole auth chains.

mod forks;
mod reference;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use ruma::OwnedEventId;

use super::*;
use crate::{
    state::{EMPTY, Node},
    testing::{State, TestRoom},
};
use forks::Forks;

/// Event ids by type and state key: how outcomes are compared.
type Ids = BTreeMap<(String, String), OwnedEventId>;

fn ids(state: &State) -> Ids {
    state.iter().map(|(key, pdu)| (key.clone(), pdu.event_id().clone())).collect()
}

fn key() -> KeyedHash {
    KeyedHash::new([5; 16])
}

/// A room with its events numbered from 1 on, its states as trees, and everything loaded.
struct Loaded {
    env: Prefetched,
    roots: Vec<NodeId>,
    slots: BTreeMap<(String, String), Slot>,
    nodes: Vec<(NodeId, Arc<Node>)>,
    pages: BTreeMap<u32, Arc<AuthPage>>,
    next: NodeId,
}

impl Loaded {
    fn new(room: &TestRoom, states: &[State]) -> Self {
        let mut slots = BTreeMap::new();
        let (mut others, mut members) = (0, state::FIRST_MEMBER_SLOT.0);
        for key in states.iter().flat_map(State::keys) {
            let counter = if key.0 == "m.room.member" { &mut members } else { &mut others };
            slots.entry(key.clone()).or_insert_with(|| {
                *counter += 1;
                Slot(*counter - 1)
            });
        }
        let mut env = Prefetched::default();
        let mut out = NewNodes::new(NodeId(1));
        // One state after another from the last one, so that trees share nodes as those of a real room do.
        let mut roots: Vec<NodeId> = vec![];
        let mut before = State::new();
        for wanted in states {
            let gone = before.keys().filter(|key| !wanted.contains_key(*key));
            let gone = gone.map(|key| Change { slot: slots[key], rix: Rix(0), membership: None });
            let set = wanted.iter().map(|(key, pdu)| Change {
                slot: slots[key],
                rix: number(room, pdu),
                membership: pdu.membership(),
            });
            let changes: Vec<_> = gone.chain(set).collect();
            let from = roots.last().copied().unwrap_or(EMPTY);
            roots.push(state::apply(&env, from, &changes, &key(), &mut out).expect("loaded"));
            before = wanted.clone();
        }
        let nodes = out.take();
        for (id, node) in &nodes {
            env.add_node(*id, node.clone());
        }
        let pages = auth_pages(room);
        for (page, edges) in &pages {
            env.add_auth_page(*page, edges.clone());
        }
        for pdu in &room.events {
            env.add_event(number(room, pdu), pdu.clone());
            let state_key = pdu.state_key().expect("only state events here");
            let types = crate::auth::lookup_types_for(pdu).expect("well-formed");
            for (kind, key) in
                types.into_iter().chain([(pdu.kind(), state_key.to_owned()), ("m.room.power_levels", String::new())])
            {
                env.add_slot(kind, &key, slots.get(&(kind.to_owned(), key.clone())).copied());
            }
        }
        Self { env, roots, slots, nodes, pages, next: out.next() }
    }

    /// The outcome as event ids.
    fn outcome(&self, room: &TestRoom, delta: &Delta) -> Ids {
        let mut out = NewNodes::new(self.next);
        let resolved = delta.apply(&self.env, &key(), &mut out).expect("loaded");
        let mut nodes: std::collections::HashMap<_, _> = self.nodes.iter().cloned().collect();
        nodes.extend(out.take());
        let mut entries = state::others(&nodes, resolved).expect("loaded");
        entries.extend(state::members(&nodes, resolved, |_| true).expect("loaded"));
        let held: BTreeMap<Slot, Entry> = entries.into_iter().collect();
        let id = |rix: Rix| room.events[rix.0 as usize - 1].event_id().clone();
        let placed = self.slots.iter().filter_map(|(key, slot)| Some((key.clone(), id(held.get(slot)?.rix))));
        let unplaced = delta.unplaced.iter().map(|one| ((one.kind.clone(), one.state_key.clone()), id(one.rix)));
        placed.chain(unplaced).collect()
    }
}

fn number(room: &TestRoom, pdu: &Pdu) -> Rix {
    Rix(u32::try_from(room.by_id[pdu.event_id()]).expect("few events") + 1)
}

fn auth_pages(room: &TestRoom) -> BTreeMap<u32, Arc<AuthPage>> {
    let mut pages: BTreeMap<u32, AuthPage> = BTreeMap::new();
    for pdu in &room.events {
        let rix = number(room, pdu);
        let auth = pdu.auth_events().iter().map(|id| number(room, &room.get(id).expect("known")));
        pages.entry(AuthPage::of(rix)).or_default().push(rix, &auth.collect::<Vec<_>>());
    }
    pages.into_iter().map(|(number, page)| (number, Arc::new(page))).collect()
}

fn compare(version: &str, seed: u64) -> Result<bool, TestCaseError> {
    let Forks { room, states } = Forks::random(version, seed);
    let loaded = Loaded::new(&room, &states);
    let expected = reference::resolve(&room, &states);
    for first_step in [1, 5, sweep::FIRST_STEP] {
        let mut resolver = Resolver { first_step, ..Resolver::new(room.version, &loaded.roots) };
        let delta = resolver.run(&loaded.env).expect("everything is loaded");
        prop_assert_eq!(&loaded.outcome(&room, &delta), &expected, "first step {}", first_step);
    }
    let mut turned = loaded.roots.clone();
    turned.reverse();
    turned.push(loaded.roots[0]);
    let delta = resolve(room.version, &turned, &loaded.env).expect("everything is loaded");
    prop_assert_eq!(&loaded.outcome(&room, &delta), &expected, "other order");
    Ok(states.iter().all(|state| ids(state) != expected))
}

/// The auth difference and the conflicted subgraph themselves, of which the outcome shows only a part.
fn compare_sets(version: &str, seed: u64) -> Result<(), TestCaseError> {
    let Forks { room, states } = Forks::random(version, seed);
    let loaded = Loaded::new(&room, &states);
    let conflicts = Conflicts::find(&loaded.env, &loaded.roots).expect("loaded");
    let mut needs = Needs::default();
    let id = |rix: Rix| room.events[rix.0 as usize - 1].event_id().clone();
    let ids_of = |events: &mut dyn Iterator<Item = Rix>| events.map(id).collect::<BTreeSet<_>>();
    for first_step in [1, 5, sweep::FIRST_STEP] {
        let mut sweep = Sweep::new(&conflicts, first_step);
        if !conflicts.slots.is_empty() {
            sweep.run(&loaded.env, &conflicts, &mut needs).expect("loaded");
        }
        let found = ids_of(&mut sweep.difference().iter().map(|(rix, _)| *rix));
        prop_assert_eq!(found, reference::difference(&room, &states), "first step {}", first_step);
    }
    let mut subgraph = Subgraph::new(&conflicts);
    subgraph.run(&loaded.env, &mut needs);
    let conflicted = ids_of(&mut conflicts.events().into_keys());
    let expected: BTreeSet<_> = reference::subgraph(&room, &conflicted).into_iter().collect();
    prop_assert_eq!(ids_of(&mut subgraph.events().into_iter()), expected);
    prop_assert!(needs.is_empty());
    Ok(())
}

/// The room versions of which forks are made.
const VERSIONS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

/// Forks that a normal run resolves: some of each version.
const A_FEW: u32 = 240;

/// A few forks, or as many in all as `FORKS` says (`just forks`).
fn forks() -> ProptestConfig {
    let cases = std::env::var("FORKS").ok().and_then(|cases| cases.parse().ok()).unwrap_or(A_FEW);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(forks())]

    #[test]
    fn forks_resolve_as_with_full_inputs(seed: u64, version in prop::sample::select(&VERSIONS[..])) {
        compare(version, seed)?;
        if RoomVersion::parse(version).is_some_and(|version| version.resolution() != Resolution::V1) {
            compare_sets(version, seed)?;
        }
    }
}

#[test]
fn the_random_forks_are_worth_resolving() {
    for version in ["1", "11", "12"] {
        let new = (0..12).filter(|seed| compare(version, *seed).expect("as with full inputs")).count();
        assert!(new >= 4, "version {version}: {new} of 12 outcomes are none of the states given");
    }
}

#[test]
fn what_is_missing_is_asked_for_until_the_outcome_is_the_same() {
    for (version, seed) in [("1", 3), ("11", 4), ("11", 5), ("12", 6), ("12", 7)] {
        let Forks { room, states } = Forks::random(version, seed);
        let loaded = Loaded::new(&room, &states);
        let expected = resolve(room.version, &loaded.roots, &loaded.env).expect("everything is loaded");
        let mut some = Prefetched::default();
        let mut resolver = Resolver::new(room.version, &loaded.roots);
        let mut rounds = 0;
        let delta = loop {
            match resolver.run(&some) {
                Ok(delta) => break delta,
                Err(ResolveError::Missing(needs)) => load(&mut some, &loaded, &needs),
                Err(error) => panic!("{error}"),
            }
            rounds += 1;
            assert!(rounds < 40, "asks for many things at a time");
        };
        assert_eq!(delta, expected, "version {version}");
    }
}

/// Loads what is asked for, each thing no more than once.
fn load(some: &mut Prefetched, all: &Loaded, needs: &Needs) {
    assert!(!needs.is_empty());
    for id in &needs.nodes {
        assert!(some.node(*id).is_none());
        some.add_node(*id, all.env.node(*id).expect("known"));
    }
    for (kind, key) in &needs.slots {
        assert!(some.slot(kind, key).is_none());
        some.add_slot(kind, key, all.env.slot(kind, key).expect("known"));
    }
    for rix in &needs.events {
        assert!(some.event(*rix).is_none());
        some.add_event(*rix, all.env.event(*rix).expect("known"));
    }
    for id in &needs.event_ids {
        assert!(some.event_by_id(id).is_none());
        let (rix, pdu) = all.env.event_by_id(id).expect("known").expect("in the room");
        some.add_event(rix, pdu);
    }
    for page in &needs.auth_pages {
        assert!(some.auth_page(*page).is_none());
        some.add_auth_page(*page, all.pages[page].clone());
    }
}

#[test]
fn owned_state_in_conflict_stays_with_those_who_may_write_it() {
    use crate::testing::Draft;
    let own = |sender, content: u64| Draft::state(sender, "t", "@b:x_1", serde_json::json!({ "n": content }));
    let (mut room, mut state) = TestRoom::public("org.matrix.msc3757.11");
    for user in ["@b:x", "@c:x"] {
        room.apply(&mut state, Draft::member(user, user, "join")).expect("public");
    }
    let levels = serde_json::json!({ "users": { "@a:x": 100 }, "events": { "t": 0 } });
    room.apply(&mut state, Draft::state("@a:x", "m.room.power_levels", "", levels)).expect("the creator may");
    let (mut one, mut two, mut three) = (state.clone(), state.clone(), state);
    room.apply(&mut one, own("@b:x", 1)).expect("the owner may");
    let last = room.apply(&mut two, own("@a:x", 2)).expect("the creator stands above the owner");
    let intruder = room.make(&three, &own("@c:x", 3)).with_rejected(true);
    room.keep(&intruder);
    three.insert(("t".to_owned(), "@b:x_1".to_owned()), intruder);
    let loaded = Loaded::new(&room, &[three, one, two]);
    let delta = resolve(room.version, &loaded.roots, &loaded.env).expect("loaded");
    let outcome = loaded.outcome(&room, &delta);
    assert_eq!(outcome[&("t".to_owned(), "@b:x_1".to_owned())], *last.event_id(), "the latest of those allowed");
}

#[test]
fn equal_states_and_partial_ones() {
    let (room, state) = TestRoom::public("11");
    let loaded = Loaded::new(&room, &[state.clone(), state]);
    let delta = resolve(room.version, &loaded.roots, &loaded.env).expect("loaded");
    assert_eq!(delta, Delta::nothing(loaded.roots[0], false));
    let mut out = NewNodes::new(loaded.next);
    let partial = state::with_partial(&loaded.env, loaded.roots[0], true, &mut out).expect("loaded");
    let mut env = loaded.env;
    for (id, node) in out.take() {
        env.add_node(id, node);
    }
    let delta = resolve(room.version, &[loaded.roots[0], partial], &env).expect("loaded");
    assert!(delta.partial, "one partial state makes the outcome partial");
    assert!(matches!(resolve(room.version, &[], &env), Err(ResolveError::Sets(0))));
}
