//! The runner, with kinds that do as they are told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use storage::{
    Batch,
    schema::jobs::{self, JobKind},
};
use testkit::Parts;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Jobs, Kind, Next, Options, StepError};

const A: JobKind = JobKind(201);
const B: JobKind = JobKind(202);

/// A kind whose jobs take three steps, each of which needs a permit.
struct Counted {
    number: JobKind,
    permits: Arc<Semaphore>,
    /// (id, how many steps were done before) of each step, in order.
    steps: Mutex<Vec<(u8, usize)>>,
    running: AtomicUsize,
    most: AtomicUsize,
    /// Steps that fail, counted down.
    failures: AtomicUsize,
    panics: bool,
}

impl Counted {
    fn new(number: JobKind) -> Arc<Self> {
        Arc::new(Self::plain(number))
    }

    fn plain(number: JobKind) -> Self {
        let permits = Arc::new(Semaphore::new(1_000));
        let (running, most, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Self { number, permits, steps: Mutex::default(), running, most, failures, panics: false }
    }

    async fn one(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.permits.acquire().await.expect("never closed").forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.steps.lock().push((id[0], cursor.len()));
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            assert!(!self.panics, "as it was told");
            return Err(StepError::Panicked("told to fail".to_owned()));
        }
        if cursor.len() == 2 {
            return Ok(Next::Done);
        }
        Ok(Next::More { cursor: [cursor, &[0]].concat(), pause: Duration::ZERO })
    }
}

impl Kind for Counted {
    fn number(&self) -> JobKind {
        self.number
    }
    fn name(&self) -> &'static str {
        "counted"
    }
    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.one(id, cursor))
    }
}

fn jobs(parts: &Parts, options: &Options, kinds: &[Arc<Counted>]) -> Jobs {
    let kinds = kinds.iter().map(|kind| Arc::clone(kind) as Arc<dyn Kind>).collect();
    let (storage, users, rooms) = (parts.storage.clone(), parts.users.clone(), parts.rooms.clone());
    Jobs::of(storage, users, rooms, parts.clock.clone(), options, kinds)
}

async fn begin(parts: &Parts, kind: JobKind, id: u8) {
    let mut batch = Batch::new();
    jobs::begin(&mut batch, kind, &(id,));
    parts.storage.commit(batch).await.expect("commits");
}

#[tokio::test]
async fn jobs_take_their_steps_in_turn_and_are_done_once() {
    let (parts, kind) = (Parts::new().await, Counted::new(A));
    let jobs = jobs(&parts, &Options { concurrent: 1, ..Options::default() }, std::slice::from_ref(&kind));
    begin(&parts, A, 1).await;
    begin(&parts, A, 2).await;
    jobs.run_due().await.expect("readable");
    assert_eq!(*kind.steps.lock(), [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 2)]);
    jobs.run_due().await.expect("readable");
    assert_eq!(kind.steps.lock().len(), 6);
    assert_eq!(jobs.verify().await.expect("readable").jobs, 0);
}

#[tokio::test]
async fn no_kind_takes_more_than_its_share_and_none_waits_for_another() {
    let (parts, slow, quick) = (Parts::new().await, Counted::new(A), Counted::new(B));
    slow.permits.forget_permits(1_000);
    let options = Options { concurrent: 3, concurrent_per_kind: 2, ..Options::default() };
    let jobs = jobs(&parts, &options, &[slow.clone(), quick.clone()]);
    for id in 0..5 {
        begin(&parts, A, id).await;
        begin(&parts, B, id).await;
    }
    let (tasks, runner) = (TaskTracker::new(), jobs.clone());
    tasks.spawn(async move { runner.run_due().await });
    while quick.steps.lock().len() < 15 {
        tokio::task::yield_now().await;
    }
    assert_eq!((slow.running.load(Ordering::SeqCst), slow.steps.lock().len()), (2, 0), "stuck, and alone so");
    slow.permits.add_permits(15);
    tasks.close();
    tasks.wait().await;
    assert_eq!((slow.steps.lock().len(), slow.most.load(Ordering::SeqCst)), (15, 2));
    assert!(quick.most.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn a_newer_cause_begins_a_job_anew_and_two_runs_never_overlap() {
    let (parts, kind) = (Parts::new().await, Counted::new(A));
    kind.permits.forget_permits(1_000);
    let jobs = jobs(&parts, &Options::default(), std::slice::from_ref(&kind));
    begin(&parts, A, 1).await;
    let (tasks, runner) = (TaskTracker::new(), jobs.clone());
    tasks.spawn(async move { runner.run_due().await });
    kind.permits.add_permits(1);
    while kind.steps.lock().is_empty() || kind.running.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    // The second step is under way.
    begin(&parts, A, 1).await;
    jobs.wake();
    kind.permits.add_permits(100);
    tasks.close();
    tasks.wait().await;
    assert_eq!(*kind.steps.lock(), [(1, 0), (1, 1), (1, 0), (1, 1), (1, 2)]);
    assert_eq!(kind.most.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn failures_are_tried_again_later_and_a_panic_is_one() {
    for panics in [false, true] {
        let parts = Parts::new().await;
        let kind = Arc::new(Counted { panics, failures: AtomicUsize::new(3), ..Counted::plain(A) });
        let jobs = jobs(&parts, &Options { failures_max: 3, ..Options::default() }, std::slice::from_ref(&kind));
        begin(&parts, A, 1).await;
        for (wait, steps) in [(0, 1), (500, 2), (1_000, 3), (60_000, 3), (3_600_000, 6)] {
            parts.clock.advance(Duration::from_millis(wait));
            jobs.run_due().await.expect("readable");
            assert_eq!(kind.steps.lock().len(), steps, "after {wait} ms more");
        }
        assert_eq!(jobs.verify().await.expect("readable").jobs, 0);
    }
}

#[tokio::test]
async fn the_timer_finds_what_nobody_rang_for_and_a_cancelled_runner_ends_its_steps() {
    let (parts, kind) = (Parts::new().await, Counted::new(A));
    let jobs = jobs(&parts, &Options::default(), std::slice::from_ref(&kind));
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let (runner, stop) = (jobs.clone(), cancel.clone());
    tasks.spawn(async move { runner.run(stop).await });
    tokio::task::yield_now().await;
    begin(&parts, A, 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(kind.steps.lock().is_empty(), "nobody rang");
    parts.clock.advance(Duration::from_secs(31));
    while kind.steps.lock().len() < 3 {
        tokio::task::yield_now().await;
    }
    kind.permits.forget_permits(1_000);
    begin(&parts, A, 2).await;
    jobs.wake();
    while kind.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    kind.permits.add_permits(1);
    tasks.close();
    tasks.wait().await;
    assert_eq!(kind.steps.lock()[3..], [(2, 0)], "the step under way, and no other");
    assert_eq!(jobs.verify().await.expect("readable").jobs, 1, "the rest is for the next start");
}

#[tokio::test]
async fn more_jobs_than_memory_has_places_for_are_all_done() {
    let (parts, kind) = (Parts::new().await, Counted::new(A));
    kind.permits.add_permits(10_000);
    let jobs = jobs(&parts, &Options::default(), std::slice::from_ref(&kind));
    let mut batch = Batch::new();
    for id in 0..2_500_u16 {
        jobs::begin(&mut batch, A, &(id,));
    }
    parts.storage.commit(batch).await.expect("commits");
    jobs.run_due().await.expect("readable");
    assert_eq!(kind.steps.lock().len(), 7_500);
    assert_eq!(jobs.verify().await.expect("readable").jobs, 0);
}

#[tokio::test]
async fn the_check_names_what_nobody_knows() {
    let (parts, kind) = (Parts::new().await, Counted::new(A));
    let jobs = jobs(&parts, &Options::default(), &[kind]);
    begin(&parts, B, 1).await;
    let report = jobs.verify().await.expect("readable");
    assert!(!report.is_whole());
    assert!(report.to_string().contains("unknown kind 202"), "{report}");
}
