//! The runner: finds jobs in the store and gives each its turns.

use std::{any::Any, collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use primitives::SharedClock;
use rooms::Rooms;
use storage::{
    Batch, CommitError, Direction, KeyRange, Positioned, ReadError, Storage,
    schema::jobs::{JobKind, JobRow, Jobs as Table},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use users::Users;

use crate::{
    board::{Board, Bounds, End, Id},
    close_replaced::CloseReplaced,
    deactivation::Deactivation,
    device_list::DeviceList,
    device_marks::DeviceMarks,
    fetch_device_lists::FetchDeviceLists,
    forget_device_lists::ForgetDeviceLists,
    guests::Guests,
    kind::{Kind, Next, StepError},
    made_whole::MadeWhole,
    meters,
    options::Options,
    profile::Profile,
    remote_device_list::RemoteDeviceList,
    resync::Resync,
    upgrade::Upgrades,
};

/// The store is looked through this often, for jobs that nobody rang for.
const LOOK: Duration = Duration::from_secs(30);
/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// The jobs of this server. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jobs")
    }
}

pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) users: Users,
    pub(crate) rooms: Rooms,
    clock: SharedClock,
    kinds: BTreeMap<JobKind, Arc<dyn Kind>>,
    board: Mutex<Board>,
    bell: Notify,
}

impl Jobs {
    /// The jobs in a store. Nothing is done before [`Self::run`].
    pub fn open(storage: Storage, users: Users, rooms: Rooms, clock: SharedClock, options: &Options) -> Self {
        let guests = Guests::new(rooms.clone(), options.items_per_step);
        let profile = Profile::new(storage.clone(), users.clone(), rooms.clone(), options);
        let deactivation = Deactivation::new(storage.clone(), users.clone(), rooms.clone(), options.items_per_step);
        let device_list = DeviceList::new(storage.clone(), users.clone(), rooms.clone(), options.items_per_step);
        let upgrades = Upgrades::new(rooms.clone(), options.items_per_step);
        let device_marks = DeviceMarks::new(storage.clone(), users.clone(), rooms.clone(), options.items_per_step);
        let remote_device_list =
            RemoteDeviceList::new(storage.clone(), rooms.clone(), users.server_name(), options.items_per_step);
        let forget_device_lists = ForgetDeviceLists::new(storage.clone(), users.clone(), rooms.clone());
        let fetch_device_lists = FetchDeviceLists::new(storage.clone(), users.clone(), rooms.clone());
        let close_replaced = CloseReplaced::new(rooms.clone());
        let kinds: Vec<Arc<dyn Kind>> = vec![
            Arc::new(guests),
            Arc::new(profile),
            Arc::new(deactivation),
            Arc::new(device_list),
            Arc::new(upgrades),
            Arc::new(device_marks),
            Arc::new(remote_device_list),
            Arc::new(fetch_device_lists),
            Arc::new(forget_device_lists),
            Arc::new(close_replaced),
            Arc::new(Resync::new(rooms.clone())),
            Arc::new(MadeWhole::new(storage.clone(), rooms.clone())),
        ];
        Self::of(storage, users, rooms, clock, options, kinds)
    }

    pub(crate) fn of(
        storage: Storage,
        users: Users,
        rooms: Rooms,
        clock: SharedClock,
        options: &Options,
        kinds: Vec<Arc<dyn Kind>>,
    ) -> Self {
        meters::describe();
        let kinds: BTreeMap<_, _> = kinds.into_iter().map(|kind| (kind.number(), kind)).collect();
        let bounds = Bounds {
            at_once: options.concurrent.max(1),
            at_once_per_kind: options.concurrent_per_kind.max(1),
            failures: options.failures_max.max(1),
        };
        let board = Mutex::new(Board::new(kinds.keys().copied(), bounds));
        Self(Arc::new(Inner { storage, users, rooms, clock, kinds, board, bell: Notify::new() }))
    }

    /// Tells the runner that a job has been written. Call it after the commit; a job that nobody rings for waits for half a minute.
    pub fn wake(&self) {
        self.0.bell.notify_one();
    }

    /// Does what there is to do until it is cancelled; then ends the steps that are under way. The owner spawns it on its tracker.
    pub async fn run(&self, cancel: CancellationToken) {
        let inner = &*self.0;
        while !cancel.is_cancelled() {
            if let Err(error) = inner.work(&cancel).await {
                tracing::error!(%error, "jobs could not be read and wait");
            }
            let wait = inner.wait();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = inner.rung() => {}
                () = inner.clock.sleep(wait) => {}
            }
        }
    }

    /// Does every step that is due now, and those that become due by that; not those that wait. Idempotent.
    pub async fn run_due(&self) -> Result<(), ReadError> {
        self.0.work(&CancellationToken::new()).await
    }
}

impl Inner {
    pub(crate) fn kind(&self, number: JobKind) -> Option<&Arc<dyn Kind>> {
        self.kinds.get(&number)
    }

    /// Waits until somebody has rung.
    async fn rung(&self) {
        tokio::select! {
            () = self.bell.notified() => {}
            () = self.rooms.signals().job_begun() => {}
            () = self.users.device_lists().job_begun() => {}
        }
    }

    /// How long nothing is due, as far as is known.
    fn wait(&self) -> Duration {
        let next = self.board.lock().next_moment();
        next.map_or(LOOK, |next| next.saturating_sub(self.clock.monotonic()).min(LOOK))
    }

    async fn work(&self, cancel: &CancellationToken) -> Result<(), ReadError> {
        self.look().await?;
        let mut running = FuturesUnordered::new();
        loop {
            while !cancel.is_cancelled()
                && let Some((kind, id)) = self.next()
            {
                running.push(self.turn(kind, id));
            }
            tokio::select! {
                ended = running.next() => match ended {
                    Some(()) => {}
                    None => return Ok(()),
                },
                () = self.rung(), if !running.is_empty() => self.look().await?,
            }
            if self.board.lock().is_starved() {
                self.look().await?;
            }
        }
    }

    fn next(&self) -> Option<(JobKind, Id)> {
        self.board.lock().next(self.clock.monotonic())
    }

    /// Looks up what is stored, as far as there are places for it.
    async fn look(&self) -> Result<(), ReadError> {
        let view = self.storage.view();
        let hungry = self.board.lock().hungry();
        for kind in hungry {
            let mut rest = Some(KeyRange::prefix(&(kind,)));
            while let Some(range) = rest {
                let page = view.scan_keys::<Table>(&range, PAGE, Direction::Forward).await?;
                let board = &mut *self.board.lock();
                let fits = page.keys.into_iter().all(|(kind, id)| board.offer(kind, id));
                rest = page.rest.filter(|_| fits);
            }
        }
        self.measure();
        Ok(())
    }

    fn measure(&self) {
        for (kind, count) in self.board.lock().counts() {
            meters::levels(self.kinds[&kind].name(), count);
        }
    }

    /// A job's turn: one step. However it ends, the board hears of it.
    async fn turn(&self, kind: JobKind, id: Id) {
        let mut turn = Turn { inner: self, kind, id, end: End::Failed };
        let name = self.kinds[&kind].name();
        let stepped = AssertUnwindSafe(self.step(kind, &turn.id)).catch_unwind().await;
        match stepped.unwrap_or_else(|panic| Err(StepError::Panicked(text_of(&*panic)))) {
            Ok(end) => turn.end = end,
            Err(error) => {
                tracing::warn!(kind = name, %error, "a job's step failed and will be tried again");
                meters::failed(name);
            }
        }
    }

    async fn step(&self, kind: JobKind, id: &Id) -> Result<End, StepError> {
        let key = (kind, id.clone());
        let Some(row) = self.storage.view().get::<Table>(&key).await? else { return Ok(End::Done) };
        let work = &self.kinds[&kind];
        let next = work.step(id, &row.value.cursor).await?;
        let mut batch = Batch::new();
        batch.assert_equals::<Table>(&key, &row);
        let end = match next {
            Next::Done => {
                batch.delete::<Table>(&key);
                End::Done
            }
            Next::More { cursor, pause } => {
                batch.put::<Table>(&key, &Positioned { position: row.position, value: JobRow { cursor } });
                End::More(pause)
            }
        };
        match self.storage.commit(batch).await {
            Ok(_) if end == End::Done => meters::done(work.name()),
            Ok(_) => {}
            // A newer cause has begun the job anew.
            Err(CommitError::Conflict(_)) => return Ok(End::More(Duration::ZERO)),
            Err(error) => return Err(error.into()),
        }
        Ok(end)
    }
}

/// A turn that is under way. If it is dropped before its end, the job counts as failed.
struct Turn<'a> {
    inner: &'a Inner,
    kind: JobKind,
    id: Id,
    end: End,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let now = self.inner.clock.monotonic();
        let set_aside = self.inner.board.lock().end(self.kind, &self.id, self.end, now);
        if set_aside {
            let kind = self.inner.kinds[&self.kind].name();
            tracing::error!(kind, id = ?self.id, "a job has failed too often and is set aside for an hour");
        }
        self.inner.measure();
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a word").to_owned()
}
