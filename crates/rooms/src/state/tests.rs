use std::collections::{BTreeMap, BTreeSet};

use insta::assert_snapshot;
use primitives::KeyedHash;
use proptest::{collection::vec, prelude::*};

use super::*;

/// A state in a plain map.
type Model = BTreeMap<Slot, Entry>;
type Nodes = HashMap<NodeId, Arc<Node>>;

fn key() -> KeyedHash {
    KeyedHash::new([3; 16])
}

/// Keeps the new nodes in their stored form, as a store would.
fn store(nodes: &mut Nodes, out: &mut NewNodes) -> usize {
    let mut bytes = 0;
    for (id, node) in out.take() {
        let encoded = node.encode();
        bytes += encoded.len();
        let decoded = Node::decode(&encoded).expect("own bytes decode");
        assert_eq!(decoded, *node);
        assert!(nodes.insert(id, Arc::new(decoded)).is_none(), "no number is used twice");
    }
    bytes
}

fn update(model: &Model, changes: &[Change]) -> Model {
    let mut model = model.clone();
    for change in changes {
        if change.rix.0 == 0 {
            model.remove(&change.slot);
        } else {
            model.insert(change.slot, Entry { rix: change.rix, membership: change.membership });
        }
    }
    model
}

fn a_change() -> impl Strategy<Value = Change> {
    let index = prop_oneof![4 => 0..40_u32, 3 => 0..1_500_u32, 2 => 0..50_000_u32, 1 => 0..(1_u32 << 31)];
    (index, any::<bool>(), 0..2_000_u32, 0..5_usize, 0..10_u8).prop_map(|(index, member, rix, membership, remove)| {
        Change {
            slot: Slot(if member { FIRST_MEMBER_SLOT.0 | index } else { index }),
            rix: Rix(if remove == 0 { 0 } else { rix }),
            membership: member.then(|| Membership::ALL[membership]),
        }
    })
}

/// Checks everything that is said of a state against the model.
fn check(nodes: &Nodes, id: NodeId, model: &Model) {
    let entries = |keep: &dyn Fn(Slot, Entry) -> bool| -> Vec<(Slot, Entry)> {
        model.iter().map(|(slot, entry)| (*slot, *entry)).filter(|(slot, entry)| keep(*slot, *entry)).collect()
    };
    assert_eq!(others(nodes, id).expect("loaded"), entries(&|slot, _| !is_member_slot(slot)));
    assert_eq!(members(nodes, id, |_| true).expect("loaded"), entries(&|slot, _| is_member_slot(slot)));
    let joined = |entry: Entry| entry.membership == Some(Membership::Join);
    let expected = entries(&|slot, entry| is_member_slot(slot) && joined(entry));
    assert_eq!(members(nodes, id, joined).expect("loaded"), expected);
    let root = root(nodes, id).expect("loaded");
    assert_eq!(root.joined as usize, expected.len());
    let invited = |entry: &Entry| entry.membership == Some(Membership::Invite);
    assert_eq!(root.invited as usize, model.values().filter(|entry| invited(entry)).count());
    assert_eq!(root.highest(), model.values().map(|entry| entry.rix).max().unwrap_or_default());
    for limit in [0, 3, 1_000, 1_990] {
        assert_eq!(above(nodes, id, Rix(limit)).expect("loaded"), entries(&|_, entry| entry.rix.0 > limit));
    }
    let slots: Vec<_> = model.keys().flat_map(|slot| [*slot, Slot(slot.0 ^ 1), Slot(slot.0 ^ (1 << 31))]).collect();
    let expected: Vec<_> = slots.iter().map(|slot| model.get(slot).copied()).collect();
    assert_eq!(get_many(nodes, id, &slots).expect("loaded"), expected);
}

fn model_diff(before: &Model, after: &Model) -> Vec<Difference> {
    let slots: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let all = slots.into_iter().map(|slot| Difference {
        slot,
        before: before.get(&slot).copied(),
        after: after.get(&slot).copied(),
    });
    all.filter(|difference| difference.before != difference.after).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn states_are_as_maps_and_differences_as_those_of_maps(steps in vec((vec(a_change(), 0..40), any::<prop::sample::Index>()), 1..10)) {
        let mut nodes = Nodes::new();
        let mut out = NewNodes::new(NodeId(1));
        let mut states = vec![(EMPTY, Model::new())];
        for (changes, from) in &steps {
            let (root, model) = from.get(&states);
            let after = apply(&nodes, *root, changes, &key(), &mut out).expect("loaded");
            let model = update(model, changes);
            store(&mut nodes, &mut out);
            check(&nodes, after, &model);
            states.push((after, model));
        }
        for (a, of_a) in &states {
            for (b, of_b) in &states {
                prop_assert_eq!(diff(&nodes, *a, *b).expect("loaded"), model_diff(of_a, of_b));
                let prints = (root(&nodes, *a).expect("loaded").fingerprint, root(&nodes, *b).expect("loaded").fingerprint);
                let rixes = |model: &Model| model.iter().map(|(slot, entry)| (*slot, entry.rix)).collect::<Vec<_>>();
                prop_assert_eq!(prints.0 == prints.1, rixes(of_a) == rixes(of_b));
            }
        }
    }

    #[test]
    fn missing_nodes_are_asked_for_until_the_answer_is_the_same(
        (first, second) in (vec(a_change(), 1..200), vec(a_change(), 1..20))
    ) {
        let (mut nodes, mut out) = (Nodes::new(), NewNodes::new(NodeId(1)));
        let a = apply(&nodes, EMPTY, &first, &key(), &mut out).expect("loaded");
        store(&mut nodes, &mut out);
        let mut again = out.clone();
        let b = apply(&nodes, a, &second, &key(), &mut out).expect("loaded");
        prop_assert_eq!(loading(&nodes, |some| apply(some, a, &second, &key(), &mut again)), b);
        prop_assert_eq!(again.nodes(), out.nodes());
        store(&mut nodes, &mut out);
        prop_assert_eq!(loading(&nodes, |some| diff(some, a, b)), diff(&nodes, a, b).expect("loaded"));
        prop_assert_eq!(loading(&nodes, |some| members(some, b, |_| true)), members(&nodes, b, |_| true).expect("loaded"));
        let slots: Vec<_> = first.iter().map(|change| change.slot).collect();
        prop_assert_eq!(loading(&nodes, |some| get_many(some, b, &slots)), get_many(&nodes, b, &slots).expect("loaded"));
    }

    #[test]
    fn any_bytes_decode_or_are_refused(mut bytes in vec(any::<u8>(), 0..80), kind in 0..4_u8) {
        if let Some(first) = bytes.first_mut() {
            *first = 0x10 | kind;
        }
        if let Ok(node) = Node::decode(&bytes) {
            prop_assert_eq!(Node::decode(&node.encode()), Ok(node));
        }
    }
}

/// Runs something on an empty cache, loading what it misses. At most as often as a tree is deep.
fn loading<T>(nodes: &Nodes, mut run: impl FnMut(&Nodes) -> Result<T, TreeError>) -> T {
    let mut some = Nodes::new();
    for _ in 0..=8 {
        match run(&some) {
            Ok(value) => return value,
            Err(TreeError::Missing(ids)) => {
                for id in ids {
                    assert!(some.insert(id, nodes[&id].clone()).is_none(), "asks only for what is missing");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("asks for one level at a time");
}

/// A room in which that many have joined one after another.
fn crowd(count: u32) -> (Nodes, NodeId, NewNodes) {
    let (mut nodes, mut out, mut state) = (Nodes::new(), NewNodes::new(NodeId(1)), EMPTY);
    for n in 0..10 {
        state = apply(&nodes, state, &[Change { slot: Slot(n), rix: Rix(n + 1), membership: None }], &key(), &mut out)
            .expect("loaded");
    }
    for n in 0..count {
        state = apply(&nodes, state, &[join(n, n + 11)], &key(), &mut out).expect("loaded");
        store(&mut nodes, &mut out);
    }
    (nodes, state, out)
}

fn join(index: u32, rix: u32) -> Change {
    Change { slot: Slot(FIRST_MEMBER_SLOT.0 | index), rix: Rix(rix), membership: Some(Membership::Join) }
}

#[test]
fn one_change_among_ten_thousand_writes_a_few_small_nodes_and_shares_the_rest() {
    let (mut nodes, state, mut out) = crowd(10_000);
    let now = apply(&nodes, state, &[join(5_000, 20_000)], &key(), &mut out).expect("loaded");
    assert_eq!(out.nodes().len(), 4, "root, two inner nodes, leaf");
    let bytes = store(&mut nodes, &mut out);
    assert!(bytes <= 280, "{bytes} bytes");
    let only: Vec<_> =
        diff(&nodes, state, now).expect("loaded").into_iter().map(|difference| difference.slot).collect();
    assert_eq!(only, [join(5_000, 0).slot]);
    let needed = |run: &dyn Fn(&Nodes) -> Result<(), TreeError>| {
        let mut some = Nodes::new();
        while let Err(TreeError::Missing(ids)) = run(&some) {
            some.extend(ids.into_iter().map(|id| (id, nodes[&id].clone())));
        }
        some.len()
    };
    assert_eq!(needed(&|some| diff(some, state, now).map(drop)), 8, "two paths");
    assert_eq!(needed(&|some| above(some, now, Rix(19_000)).map(drop)), 4, "one path");
}

#[test]
fn what_changes_nothing_is_the_same_state() {
    let (nodes, state, mut out) = crowd(100);
    let same = [
        join(5, 16),
        Change { slot: Slot(77), rix: Rix(0), membership: None },
        join(1 << 30, 9),
        Change { rix: Rix(0), ..join(1 << 30, 0) },
    ];
    assert_eq!(apply(&nodes, state, &same, &key(), &mut out).expect("loaded"), state);
    assert_eq!(apply(&nodes, state, &[], &key(), &mut out).expect("loaded"), state);
    assert!(out.nodes().is_empty());
    assert_eq!(apply(&nodes, EMPTY, &[], &key(), &mut out).expect("loaded"), EMPTY);
}

#[test]
fn partial_is_inherited_until_it_is_lifted() {
    let (mut nodes, state, mut out) = crowd(40);
    let partial = with_partial(&nodes, state, true, &mut out).expect("loaded");
    let more = apply(&nodes, partial, &[join(3, 900)], &key(), &mut out).expect("loaded");
    store(&mut nodes, &mut out);
    assert!(root(&nodes, more).expect("loaded").partial);
    assert_eq!(diff(&nodes, state, partial).expect("loaded"), []);
    let complete = with_partial(&nodes, more, false, &mut out).expect("loaded");
    store(&mut nodes, &mut out);
    assert!(!root(&nodes, complete).expect("loaded").partial);
    assert_eq!(with_partial(&nodes, complete, false, &mut out).expect("loaded"), complete);
}

#[test]
fn a_node_of_the_wrong_kind_is_an_error() {
    let (nodes, state, _) = crowd(40);
    let leaf = *nodes.iter().find(|(_, node)| matches!(***node, Node::Leaf(_))).expect("a leaf").0;
    assert_eq!(get(&nodes, leaf, Slot(0)), Err(TreeError::Shape(leaf)));
    let swapped: Nodes =
        nodes.keys().map(|id| (*id, nodes[&if *id == state { state } else { leaf }].clone())).collect();
    assert!(matches!(members(&swapped, state, |_| true), Err(TreeError::Shape(_))));
}

/// The stored form: these bytes stand in databases and may not change.
#[test]
fn stored_bytes_are_version_1() {
    let (mut nodes, mut out) = (Nodes::new(), NewNodes::new(NodeId(7)));
    let others =
        [(0, 1), (1, 3), (31, 400)].map(|(slot, rix)| Change { slot: Slot(slot), rix: Rix(rix), membership: None });
    let members = [
        (0, Membership::Join),
        (40, Membership::Invite),
        (41, Membership::Leave),
        (70, Membership::Ban),
        (71, Membership::Knock),
    ];
    let members = members.map(|(slot, membership)| Change { membership: Some(membership), ..join(slot, slot + 2) });
    let state = apply(&nodes, EMPTY, &[&others[..], &members].concat(), &key(), &mut out).expect("loaded");
    assert_eq!(state, NodeId(12));
    let partial = with_partial(&nodes, state, true, &mut out).expect("loaded");
    let hex = |node: &Node| node.encode().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let text: Vec<_> = out.nodes().iter().map(|(id, node)| format!("{id} {}", hex(node))).collect();
    assert_snapshot!(text.join("\n"), @"
    7 1203000080010900043c060000
    8 120100000002000100
    9 12000300002a0102020102
    10 12c0000000480102040102
    11 1107000000080224020780d411
    12 10100790030b492661a641dd23347f862ebeb0c1e470f30101
    13 10110790030b492661a641dd23347f862ebeb0c1e470f30101
    ");
    store(&mut nodes, &mut out);
    assert!(root(&nodes, partial).expect("loaded").partial);
}

#[test]
fn bytes_of_other_versions_are_refused() {
    for bytes in [
        &[][..],
        &[0x20, 0, 0],
        &[0x13],
        &[0x11, 1, 0, 0, 0, 0, 33, 0],
        &[0x12, 1, 0, 0, 0, 1, 0, 6, 0],
        &[0x10, 0xff, 0, 0],
    ] {
        assert_eq!(Node::decode(bytes), Err(NodeCodecError), "{bytes:?}");
    }
    let mut long = Node::Root(Root::default()).encode();
    long.push(0);
    assert_eq!(Node::decode(&long), Err(NodeCodecError));
}
