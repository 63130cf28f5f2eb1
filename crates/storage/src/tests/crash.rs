//! Faults and crashes: what was acknowledged is there, nothing is there in part, and nothing is shown before it is durable.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use primitives::StreamPosition;
use tempfile::TempDir;

use super::{Bench, Kind};
use crate::{
    Batch, CommitError, Direction, Fault, Faults, KeyRange, Options, Positioned, Raw, Step, Storage, Text,
    open::BUILD,
    schema::testing::{Big, Log, Plain},
};

/// A batch whose rows lie in three tables and belong together.
fn joined(number: u8) -> Batch {
    let mut batch = Batch::new();
    batch.put::<Plain>(&(0, Text::new("joined"), number), &Raw(vec![number]));
    batch.put::<Big>(&(0, number), &Raw(vec![number; 100_000]));
    batch.put::<Log>(&(0, StreamPosition::PENDING, 0), &Positioned::pending(u32::from(number)));
    batch
}

/// The numbers of the joined batches that are there; panics if one is there in part.
async fn joined_numbers(storage: &Storage) -> Vec<u8> {
    let view = storage.view();
    let plain = view.scan::<Plain>(&KeyRange::prefix(&(0_u8,)), 1_000, Direction::Forward).await.expect("readable");
    let numbers: Vec<u8> = plain.rows.iter().map(|((_, _, number), _)| *number).collect();
    let big = view.scan::<Big>(&KeyRange::prefix(&()), 1_000, Direction::Forward).await.expect("readable");
    assert!(big.rows.iter().map(|((_, number), _)| number).eq(&numbers), "all of a batch or none");
    assert!(big.rows.iter().all(|((_, number), value)| value.0 == vec![*number; 100_000]));
    let log = view.scan::<Log>(&KeyRange::prefix(&()), 1_000, Direction::Forward).await.expect("readable");
    assert!(
        log.rows.iter().map(|(_, row)| row.value).eq(numbers.iter().map(|n| u32::from(*n))),
        "in the order of the positions"
    );
    assert!(log.rows.iter().all(|(key, row)| key.1 == row.position && row.position <= view.position()));
    numbers
}

#[tokio::test]
async fn i2_a_fault_at_any_step_stops_every_acknowledgement_and_what_was_acknowledged_survives() {
    for kind in Kind::ALL {
        for step in Step::ALL {
            for fault in [Fault::Fail, Fault::Stop] {
                let (bench, faults) = (Bench::new(kind), Faults::new());
                let storage = bench.open_with(&faults);
                storage.commit(joined(1)).await.expect("commits");
                faults.at(step, 2, fault);
                let acknowledged = storage.commit(joined(2)).await.expect("the first time is spared");
                let refused = storage.commit(joined(3)).await.expect_err("the fault");
                assert!(matches!(refused, CommitError::Failed(_)), "{refused}");
                let again = storage.commit(joined(4)).await.expect_err("nothing is acknowledged any more");
                assert_eq!(again.to_string(), refused.to_string());
                assert!(refused.to_string().ends_with(&storage.failed().await), "{refused}");
                if step != Step::Acknowledge {
                    assert_eq!(storage.position(), acknowledged, "{kind:?} {step:?}: nothing undone is shown");
                    assert_eq!(joined_numbers(&storage).await, [1, 2], "{kind:?} {step:?}");
                }
                storage.close().await.expect_err("a store that has failed is not closed in order");
                drop(storage);
                let numbers = joined_numbers(&bench.open()).await;
                match step {
                    Step::Check | Step::Write => assert_eq!(numbers, [1, 2], "{kind:?} {step:?} {fault:?}"),
                    // Written and not synced: a pretended disk forgets it, a killed process may leave it to the operating system.
                    Step::Sync if kind != Kind::Rocks => assert_eq!(numbers, [1, 2], "{kind:?} {step:?} {fault:?}"),
                    Step::Sync => assert!([&[1, 2][..], &[1, 2, 3]].contains(&&*numbers), "{numbers:?}"),
                    Step::Publish | Step::Acknowledge => assert_eq!(numbers, [1, 2, 3], "{kind:?} {step:?} {fault:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn i2_nothing_is_shown_before_it_is_durable_nor_acknowledged_before_it_is_shown() {
    for kind in Kind::ALL {
        let (bench, faults) = (Bench::new(kind), Faults::new());
        let storage = Arc::new(OnceLock::<Storage>::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (looking, noting) = (Arc::clone(&storage), Arc::clone(&seen));
        faults.observe(move |step| {
            let view = looking.get().expect("opened").view();
            let there = view.get_now::<Plain>(&(0, Text::new("joined"), 1)).expect("readable").is_some();
            noting.lock().expect("not poisoned").push((step, there));
        });
        storage.set(bench.open_with(&faults)).expect("set once");
        let before = storage.get().expect("opened").position();
        let position = storage.get().expect("opened").commit(joined(1)).await.expect("commits");
        assert_eq!(position, before.next());
        let expected = Step::ALL.map(|step| (step, step == Step::Acknowledge));
        assert_eq!(*seen.lock().expect("not poisoned"), expected, "{kind:?}");
        faults.observe(|_| {});
    }
}

#[tokio::test]
async fn what_waits_together_is_one_group_with_positions_in_order_and_conflicts_apart() {
    for kind in [Kind::Threaded, Kind::Rocks] {
        let (bench, faults) = (Bench::new(kind), Faults::new());
        let storage = bench.open_with(&faults);
        let groups = Arc::new(Mutex::new(0));
        let (gate, closed_gate) = std::sync::mpsc::channel::<()>();
        let (arrive, arrived) = tokio::sync::oneshot::channel();
        let (counting, waiting) = (Arc::clone(&groups), Mutex::new((Some(arrive), closed_gate)));
        faults.observe(move |step| {
            if step == Step::Check {
                *counting.lock().expect("not poisoned") += 1;
                let (arrive, gate) = &mut *waiting.lock().expect("not poisoned");
                arrive.take().map(|arrive| arrive.send(()));
                // The first group waits here until everything else has been queued and the gate is dropped.
                let _ = gate.recv();
            }
        });
        let once = |number: u8| {
            let mut batch = joined(number);
            batch
                .assert_absent::<Plain>(&(9, Text::new("winner"), 0))
                .put::<Plain>(&(9, Text::new("winner"), 0), &Raw(vec![number]));
            storage.commit(batch)
        };
        let queue_the_rest = async {
            arrived.await.expect("the first group is under way");
            let rest = futures_util::future::join_all((1..=5).map(once));
            futures_util::join!(rest, async { drop(gate) }).0
        };
        let (first, rest) = futures_util::join!(storage.commit(joined(0)), queue_the_rest);
        let first = first.expect("commits");
        let outcomes: Vec<_> = rest.into_iter().map(|r| r.map_err(|e| e.to_string())).collect();
        assert_eq!(outcomes[0], Ok(first.next()), "{kind:?}");
        assert!(
            outcomes[1..].iter().all(|o| *o == Err("assert 0 of the batch does not hold".to_owned())),
            "{outcomes:?}"
        );
        assert_eq!(storage.position(), first.next(), "losers take no position");
        assert_eq!(joined_numbers(&storage).await, [0, 1]);
        assert_eq!(*groups.lock().expect("not poisoned"), 2, "{kind:?}: one alone, then all that waited");
    }
}

#[tokio::test]
async fn i2_crashes_at_random_steps_lose_nothing_acknowledged_and_leave_nothing_half_done() {
    for kind in [Kind::Inline, Kind::Threaded] {
        let bench = Bench::new(kind);
        let mut acknowledged = Vec::new();
        let mut last = StreamPosition::ZERO;
        let mut number = 0;
        for life in 0..40 {
            let faults = Faults::new();
            let storage = bench.open_with(&faults);
            let found = joined_numbers(&storage).await;
            assert!(
                acknowledged.iter().all(|n| found.contains(n)),
                "{kind:?} life {life}: {acknowledged:?} in {found:?}"
            );
            assert!(storage.position() > last);
            faults.at_any(1 + u32::try_from(bench.random.below(12)).expect("small"), Fault::Stop);
            while let Ok(position) = storage.commit(joined(number)).await {
                assert!(position > last);
                last = position;
                acknowledged.push(number);
                number += 1;
            }
            number += 1;
        }
        assert!(acknowledged.len() > 20, "{kind:?}: the crashes leave room for work");
    }
}

#[tokio::test]
async fn a_store_left_over_from_before_a_crash_cannot_write() {
    let bench = Bench::new(Kind::Inline);
    let old = bench.open();
    old.commit(joined(1)).await.expect("commits");
    let new = bench.open();
    old.commit(joined(2)).await.expect_err("the disk has been taken over");
    new.commit(joined(3)).await.expect("commits");
    assert_eq!(joined_numbers(&bench.open()).await, [1, 3]);
}

#[tokio::test]
async fn a_panic_in_the_committer_is_a_failure_like_any_other() {
    for kind in [Kind::Threaded, Kind::Rocks] {
        let (bench, faults) = (Bench::new(kind), Faults::new());
        let storage = bench.open_with(&faults);
        storage.commit(joined(1)).await.expect("commits");
        faults.observe(|step| assert_ne!(step, Step::Publish, "ordered by the test"));
        assert!(matches!(storage.commit(joined(2)).await, Err(CommitError::Failed(_))), "{kind:?}");
        assert!(matches!(storage.commit(joined(3)).await, Err(CommitError::Failed(_))), "{kind:?}");
        assert_eq!(storage.failed().await, "the committer has panicked");
        drop(storage);
        assert_eq!(joined_numbers(&bench.open()).await, [1, 2], "{kind:?}: it was durable");
    }
}

/// The newest log of a database, and its length.
fn newest_log(directory: &Path) -> (PathBuf, u64) {
    let entries = std::fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path());
    let log = entries.filter(|path| path.extension().is_some_and(|e| e == "log")).max().expect("there is a log");
    let length = log.metadata().expect("readable").len();
    (log, length)
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().expect("a temporary directory");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
    }
    to
}

#[tokio::test]
async fn i2_a_log_cut_at_any_length_leaves_all_commits_before_the_cut_and_nothing_in_part() {
    let bench = Bench::new(Kind::Rocks);
    let storage = bench.open();
    let mut lengths = Vec::new();
    for number in 0..4 {
        storage.commit(joined(number)).await.expect("commits");
        lengths.push(newest_log(bench.path()).1);
    }
    // The copy is of a database that was never closed, as after a loss of power.
    let crashed = copy(bench.path());
    let total = lengths[3];
    for step in 0..24 {
        let cut = lengths[0] - 1 + (total - lengths[0] + 1) * step / 23;
        let machine = copy(crashed.path());
        let (log, _) = newest_log(machine.path());
        std::fs::OpenOptions::new().write(true).open(&log).expect("writable").set_len(cut).expect("cut");
        let options = Options { memory_budget_bytes: 16 << 20, ..Options::directory(machine.path(), "example.org") };
        let survived = joined_numbers(&bench.open_as(options, BUILD).expect("opens")).await;
        let before_the_cut: Vec<u8> = (0..4).filter(|n| lengths[usize::from(*n)] <= cut).collect();
        assert_eq!(survived, before_the_cut, "cut at {cut} of {lengths:?}");
    }
}
