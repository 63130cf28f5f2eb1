//! One suite for every engine: the store against a plain map.

use std::collections::BTreeMap;

use primitives::StreamPosition;
use proptest::prelude::*;

use super::{Bench, Kind};
use crate::{
    Batch, CommitError, Direction, Key, KeyRange, MAX_PAGE_BYTES, MAX_PAGE_ROWS, MAX_VALUE_BYTES, Positioned, Raw,
    Storage, Table, Text, Value, View,
    schema::testing::{Big, Log, Plain},
};

/// What should be stored: by table number and key, the value.
type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// A key of the table `test_plain`, out of few, so that they meet.
type PlainKey = (u8, Text, u8);

#[derive(Clone, Debug)]
enum Action {
    Put(PlainKey, Vec<u8>),
    Delete(PlainKey),
    DeletePartition(u8),
    DeletePart(u8, Text),
    PutBig((u8, u8), usize),
    DeleteBig((u8, u8)),
    DeleteBigPartition(u8),
    Append(u8, u16, u32),
}

#[derive(Clone, Debug)]
enum Claim {
    /// That the row is as it is, whatever that is.
    True(PlainKey),
    Absent(PlainKey),
    Equals(PlainKey, Vec<u8>),
    BigTrue((u8, u8)),
}

#[derive(Clone, Debug)]
struct Transaction {
    claims: Vec<Claim>,
    actions: Vec<Action>,
}

fn plain_key() -> impl Strategy<Value = PlainKey> {
    (
        0..3_u8,
        prop_oneof![Just(""), Just("a"), Just("a\0"), Just("b")].prop_map(Text::new),
        prop_oneof![0..3_u8, Just(255)],
    )
}

fn big_key() -> impl Strategy<Value = (u8, u8)> {
    (prop_oneof![Just(0), Just(255)], 0..3_u8)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..3_u8, 0..3)
}

fn action() -> impl Strategy<Value = Action> {
    let length = prop_oneof![
        0..5_usize,
        Just(MAX_VALUE_BYTES - 1),
        Just(MAX_VALUE_BYTES),
        Just(MAX_VALUE_BYTES + 1),
        Just(3 * MAX_VALUE_BYTES + 7)
    ];
    prop_oneof![
        6 => (plain_key(), value()).prop_map(|(k, v)| Action::Put(k, v)),
        3 => plain_key().prop_map(Action::Delete),
        1 => (0..3_u8).prop_map(Action::DeletePartition),
        1 => plain_key().prop_map(|k| Action::DeletePart(k.0, k.1)),
        2 => (big_key(), length).prop_map(|(k, n)| Action::PutBig(k, n)),
        1 => big_key().prop_map(Action::DeleteBig),
        1 => prop_oneof![Just(0_u8), Just(255)].prop_map(Action::DeleteBigPartition),
        3 => (0..2_u8, 0..3_u16, any::<u32>()).prop_map(|(k, i, v)| Action::Append(k, i, v)),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        4 => plain_key().prop_map(Claim::True),
        1 => plain_key().prop_map(Claim::Absent),
        1 => (plain_key(), value()).prop_map(|(k, v)| Claim::Equals(k, v)),
        1 => big_key().prop_map(Claim::BigTrue),
    ]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let parts = (proptest::collection::vec(claim(), 0..3), proptest::collection::vec(action(), 0..6));
    parts.prop_map(|(claims, actions)| Transaction { claims, actions })
}

/// Rounds of transactions that are committed together, and after each round whether the store is opened anew.
fn rounds(count: usize) -> impl Strategy<Value = Vec<(Vec<Transaction>, bool)>> {
    let reopen = prop_oneof![4 => Just(false), 1 => Just(true)];
    proptest::collection::vec((proptest::collection::vec(transaction(), 1..6), reopen), 1..count)
}

fn big_value(length: usize) -> Raw {
    Raw((0_u8..=250).cycle().take(length).collect())
}

fn bytes(key: &impl Key) -> Vec<u8> {
    key.to_bytes().into_parts().0
}

/// Applies a transaction to the model, and builds the batch that should do the same.
fn apply(model: &mut Model, transaction: &Transaction, position: StreamPosition) -> (Batch, Option<usize>) {
    let mut batch = Batch::new();
    let mut conflict = None;
    for (index, claim) in transaction.claims.iter().enumerate() {
        if !claim_holds(model, claim, &mut batch) {
            conflict = conflict.or(Some(index));
        }
    }
    let mut after = model.clone();
    for action in &transaction.actions {
        act(&mut after, action, &mut batch, position);
    }
    if conflict.is_none() {
        *model = after;
    }
    (batch, conflict)
}

fn claim_holds(model: &Model, claim: &Claim, batch: &mut Batch) -> bool {
    let stored = |table: u8, key: Vec<u8>| model.get(&(table, key)).cloned();
    match claim {
        Claim::True(key) => {
            let value = stored(Plain::ID.0, bytes(key)).map(Raw);
            batch.assert_unchanged::<Plain>(key, value.as_ref());
            true
        }
        Claim::Absent(key) => {
            batch.assert_absent::<Plain>(key);
            stored(Plain::ID.0, bytes(key)).is_none()
        }
        Claim::Equals(key, value) => {
            batch.assert_equals::<Plain>(key, &Raw(value.clone()));
            stored(Plain::ID.0, bytes(key)).as_ref() == Some(value)
        }
        Claim::BigTrue(key) => {
            let value = stored(Big::ID.0, bytes(key)).map(Raw);
            batch.assert_unchanged::<Big>(key, value.as_ref());
            true
        }
    }
}

fn act(model: &mut Model, action: &Action, batch: &mut Batch, position: StreamPosition) {
    let erase = |model: &mut Model, table: u8, prefix: Vec<u8>| {
        model.retain(|(t, key), _| *t != table || !key.starts_with(&prefix));
    };
    match action {
        Action::Put(key, value) => {
            batch.put::<Plain>(key, &Raw(value.clone()));
            model.insert((Plain::ID.0, bytes(key)), value.clone());
        }
        Action::Delete(key) => {
            batch.delete::<Plain>(key);
            model.remove(&(Plain::ID.0, bytes(key)));
        }
        Action::DeletePartition(first) => {
            batch.delete_prefix::<Plain>(&(*first,));
            erase(model, Plain::ID.0, bytes(&(*first,)));
        }
        Action::DeletePart(first, text) => {
            batch.delete_prefix::<Plain>(&(*first, text.clone()));
            erase(model, Plain::ID.0, bytes(&(*first, text.clone())));
        }
        Action::PutBig(key, length) => {
            batch.put::<Big>(key, &big_value(*length));
            model.insert((Big::ID.0, bytes(key)), big_value(*length).0);
        }
        Action::DeleteBig(key) => {
            batch.delete::<Big>(key);
            model.remove(&(Big::ID.0, bytes(key)));
        }
        Action::DeleteBigPartition(first) => {
            batch.delete_prefix::<Big>(&(*first,));
            erase(model, Big::ID.0, bytes(&(*first,)));
        }
        Action::Append(log, index, value) => {
            batch.put::<Log>(&(*log, StreamPosition::PENDING, *index), &Positioned::pending(*value));
            let row = Positioned { position, value: *value };
            model.insert((Log::ID.0, bytes(&(*log, position, *index))), row.encode().0);
        }
    }
}

/// Everything in a table, read in pages of `limit` rows.
async fn dump<T: Table>(view: &View, range: KeyRange, limit: usize, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut rows, mut keys) = (Vec::new(), Vec::new());
    let mut rest = Some(range.clone());
    while let Some(range) = rest {
        let page = view.scan::<T>(&range, limit, direction).await.expect("readable");
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows.iter().map(|(key, value)| (bytes(key), value.encode().0)));
        rest = page.rest;
    }
    rest = Some(range);
    while let Some(range) = rest {
        let page = view.scan_keys::<T>(&range, limit, direction).await.expect("readable");
        keys.extend(page.keys.iter().map(bytes));
        rest = page.rest;
    }
    assert!(rows.iter().map(|(key, _)| key).eq(&keys), "keys alone are the keys of the rows");
    rows
}

fn expected<T: Table>(model: &Model, range: &KeyRange, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (start, end) = range.bounds();
    let inside = |key: &[u8]| key >= start && end.is_none_or(|end| key < end);
    let rows = model.iter().filter(|((table, key), _)| *table == T::ID.0 && inside(key));
    let mut rows: Vec<_> = rows.map(|((_, key), value)| (key.clone(), value.clone())).collect();
    if direction == Direction::Backward {
        rows.reverse();
    }
    rows
}

async fn check_table<T: Table>(view: &View, model: &Model, ranges: &[KeyRange], limit: usize) {
    for range in ranges {
        for direction in [Direction::Forward, Direction::Backward] {
            assert_eq!(
                dump::<T>(view, range.clone(), limit, direction).await,
                expected::<T>(model, range, direction),
                "{} {range:?} {direction:?}",
                T::NAME
            );
        }
    }
}

/// The view shows what the model holds, whichever way one looks.
async fn check(view: &View, model: &Model, limit: usize) {
    let a = || Text::new("a");
    let plain = [
        KeyRange::prefix(&()),
        KeyRange::prefix(&(1_u8,)),
        KeyRange::prefix(&(1_u8, a())),
        KeyRange::from(&(1_u8,), &(1_u8, a())),
        KeyRange::until(&(1_u8,), &(1_u8, a(), 2_u8)),
        KeyRange::between(&(0_u8, a()), &(2_u8, a())),
        KeyRange::between(&(2_u8,), &(1_u8,)),
    ];
    check_table::<Plain>(view, model, &plain, limit).await;
    check_table::<Big>(view, model, &[KeyRange::prefix(&()), KeyRange::prefix(&(255_u8,))], limit).await;
    check_table::<Log>(
        view,
        model,
        &[KeyRange::prefix(&()), KeyRange::from(&(1_u8,), &(1_u8, view.position()))],
        limit,
    )
    .await;
    let keys: Vec<PlainKey> = (0..3).flat_map(|i| ["", "a", "a\0", "b", "c"].map(|t| (i, Text::new(t), i))).collect();
    let together = view.multi_get::<Plain>(&keys).await.expect("readable");
    for (key, value) in keys.iter().zip(together) {
        let stored = model.get(&(Plain::ID.0, bytes(key))).cloned().map(Raw);
        assert_eq!(value, stored);
        assert_eq!(view.get::<Plain>(key).await.expect("readable"), stored);
        assert_eq!(view.get_raw::<Plain>(key).await.expect("readable").map(Raw), stored);
        assert_eq!(view.contains::<Plain>(key).await.expect("readable"), stored.is_some());
    }
    let keys: Vec<_> = [(0, 0), (0, 1), (255, 2)].into();
    let together = view.multi_get::<Big>(&keys).await.expect("readable");
    for (key, value) in keys.iter().zip(together) {
        assert_eq!(value, model.get(&(Big::ID.0, bytes(key))).cloned().map(Raw));
        assert_eq!(view.get::<Big>(key).await.expect("readable"), value_of(model, *key));
    }
}

fn value_of(model: &Model, key: (u8, u8)) -> Option<Raw> {
    model.get(&(Big::ID.0, bytes(&key))).cloned().map(Raw)
}

/// Commits a round at once and checks the outcomes against the model, which takes the transactions in order.
async fn commit_round(storage: &Storage, model: &mut Model, round: &[Transaction]) {
    let mut position = storage.position();
    let mut batches = Vec::new();
    let mut outcomes = Vec::new();
    for transaction in round {
        let (batch, conflict) = apply(model, transaction, position.next());
        if conflict.is_none() {
            position = position.next();
        }
        batches.push(batch);
        outcomes.push(conflict.map_or(Ok(position), Err));
    }
    let results = futures_util::future::join_all(batches.into_iter().map(|batch| storage.commit(batch))).await;
    let results: Vec<_> = results
        .into_iter()
        .map(|result| {
            result.map_err(|error| match error {
                CommitError::Conflict(index) => index,
                other => panic!("{other}"),
            })
        })
        .collect();
    assert_eq!(results, outcomes, "positions without gaps, conflicts where the model has them");
    assert_eq!(storage.position(), position);
}

async fn run(kind: Kind, rounds: Vec<(Vec<Transaction>, bool)>, limit: usize) {
    let bench = Bench::new(kind);
    let mut storage = bench.open();
    let mut model = Model::new();
    let mut earlier = Vec::new();
    for (round, reopen) in rounds {
        commit_round(&storage, &mut model, &round).await;
        let view = storage.view();
        assert_eq!(view.position(), storage.position());
        check(&view, &model, limit).await;
        earlier.push((view, model.clone()));
        if reopen {
            check_earlier(&mut earlier, limit).await;
            drop(storage);
            storage = bench.open();
            check(&storage.view(), &model, limit).await;
        }
    }
    check_earlier(&mut earlier, limit).await;
    let parts = crate::view::tests::orphans(&storage.view()).await;
    assert_eq!(parts, Vec::<Vec<u8>>::new(), "no part of a large value is left behind");
}

/// Views show for ever what they showed first.
async fn check_earlier(earlier: &mut Vec<(View, Model)>, limit: usize) {
    for (view, model) in earlier.drain(..) {
        check(&view, &model, limit).await;
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn i3_memory_is_the_model(rounds in rounds(8), limit in 1..9_usize) {
        block_on(run(Kind::Inline, rounds, limit));
    }

    #[test]
    fn i3_memory_in_groups_is_the_model(rounds in rounds(8), limit in 1..9_usize) {
        block_on(run(Kind::Threaded, rounds, limit));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn i3_rocks_is_the_model(rounds in rounds(12), limit in 1..9_usize) {
        block_on(run(Kind::Rocks, rounds, limit));
    }
}

#[tokio::test]
async fn long_scans_and_deleted_ranges_are_the_same_on_every_engine() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        let mut batch = Batch::new();
        let mut keys = Vec::new();
        for i in 0..2_000_u16 {
            let [high, low] = i.to_be_bytes();
            let key = (high, Text::new("row"), low);
            batch.put::<Plain>(&key, &Raw(vec![low]));
            keys.push(key);
        }
        storage.commit(batch).await.expect("commits");
        let view = storage.view();
        let whole = view.scan::<Plain>(&KeyRange::prefix(&()), 5_000, Direction::Forward).await.expect("readable");
        assert_eq!((whole.rows.len(), whole.rest), (2_000, None), "{kind:?}");
        assert!(view.multi_get::<Plain>(&keys).await.expect("readable").iter().all(Option::is_some), "{kind:?}");
        let mut batch = Batch::new();
        batch.delete_prefix::<Plain>(&(3_u8,)).put::<Plain>(&(3, Text::new("new"), 0), &Raw::default());
        storage.commit(batch).await.expect("commits");
        let left = storage
            .view()
            .scan_keys::<Plain>(&KeyRange::prefix(&(3_u8,)), 500, Direction::Forward)
            .await
            .expect("readable");
        assert_eq!(left.keys, [(3, Text::new("new"), 0)], "{kind:?}");
        let others = storage
            .view()
            .scan_keys::<Plain>(&KeyRange::prefix(&()), 5_000, Direction::Backward)
            .await
            .expect("readable");
        assert_eq!(others.keys.len(), 2_000 - 256 + 1, "{kind:?}");
    }
}

#[tokio::test]
async fn what_is_over_a_bound_is_refused_and_changes_nothing() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        let before = storage.position();
        let mut batch = Batch::new();
        batch.put::<Plain>(&(0, Text::new(""), 0), &Raw(vec![0; MAX_VALUE_BYTES + 1]));
        let refused = storage.commit(batch).await.expect_err("too large a value");
        assert_eq!(refused.to_string(), "a value of 90001 bytes is over the limit of table test_plain");
        let mut batch = Batch::new();
        batch.put::<Big>(&(0, 0), &Raw(vec![0; crate::MAX_BATCH_BYTES]));
        assert!(matches!(storage.commit(batch).await, Err(CommitError::TooLarge(_))));
        assert_eq!((storage.position(), storage.view().position()), (before, before), "{kind:?}");
        let mut batch = Batch::new();
        batch.put::<Big>(&(0, 0), &Raw(vec![7; 15 << 20]));
        storage.commit(batch).await.expect("within the bounds");
        let value = storage.view().get::<Big>(&(0, 0)).await.expect("readable").expect("there");
        assert_eq!(value, Raw(vec![7; 15 << 20]), "{kind:?}");
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_rows_and_says_what_is_left() {
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        for part in 0..4 {
            let mut batch = Batch::new();
            for position in 1..=5_000 {
                let row = Positioned { position: StreamPosition(position), value: 0 };
                batch.put::<Log>(&(part, row.position, 0), &row);
            }
            storage.commit(batch).await.expect("commits");
        }
        let (view, all) = (storage.view(), KeyRange::prefix(&()));
        let page = view.scan_keys::<Log>(&all, usize::MAX, Direction::Forward).await.expect("readable");
        assert_eq!(page.keys.len(), MAX_PAGE_ROWS, "{kind:?}");
        let now = view.scan_now::<Log>(&all, usize::MAX, Direction::Forward).expect("readable");
        assert_eq!((now.rows.len(), &now.rest), (MAX_PAGE_ROWS, &page.rest), "{kind:?}");
        let rest = page.rest.expect("more is left");
        let rest = view.scan_keys::<Log>(&rest, usize::MAX, Direction::Forward).await.expect("readable");
        assert_eq!((rest.keys.len(), rest.rest), (20_000 - MAX_PAGE_ROWS, None), "{kind:?}");
    }
}

#[tokio::test]
async fn a_page_is_bounded_in_bytes_and_says_what_is_left() {
    const ROW_BYTES: usize = 20_000;
    for kind in Kind::ALL {
        let bench = Bench::new(kind);
        let storage = bench.open();
        for part in 0..4 {
            let mut batch = Batch::new();
            for i in 0..=255 {
                batch.put::<Plain>(&(part, Text::new("fat"), i), &Raw(vec![i; ROW_BYTES]));
            }
            storage.commit(batch).await.expect("commits");
        }
        let view = storage.view();
        let mut pages = Vec::new();
        let mut rest = Some(KeyRange::prefix(&()));
        while let Some(range) = rest {
            let page = view.scan::<Plain>(&range, usize::MAX, Direction::Backward).await.expect("readable");
            pages.push(page.rows.len());
            rest = page.rest;
        }
        let full = MAX_PAGE_BYTES.div_ceil(ROW_BYTES);
        assert_eq!(pages, [full, 4 * 256 - full], "{kind:?}");
    }
}
