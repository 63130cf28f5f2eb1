//! The engine: what it holds, how it begins, and what memory learns after each commit.

use std::{
    collections::HashSet,
    future::Future,
    sync::{Arc, atomic::AtomicBool},
};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use primitives::{Random, SharedClock, UnixMillis, UserNid};
use ruma::UserId;
use storage::{
    Direction, KeyRange, Positioned, Storage,
    schema::delayed::{CancelReason, DelayedTimers, Outcome, TimerRow, order},
};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use users::KeyedLimit;

use crate::{
    Options, StoreError,
    act::Guesses,
    end::Ended,
    meters::Meters,
    outside::Outside,
    pace::Pace,
    recent::Recent,
    steps::Steps,
    timeline::{Era, Moment, Timeline},
    timers::{Key, Timer, Timers},
};

/// Rows that are read at a time at the start.
const LOAD_PAGE: usize = 4096;
/// Events that are ended at once when many are: their writes share a sync.
const AT_ONCE: usize = 64;
/// How often an operation looks again after somebody else was faster.
pub(crate) const TRIES: usize = 32;

/// The delayed events of this server's users. Cheap to clone.
#[derive(Clone)]
pub struct DelayedEvents(pub(crate) Arc<Inner>);

impl std::fmt::Debug for DelayedEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DelayedEvents")
    }
}

/// What waits and by what time it waits.
pub(crate) struct Timing {
    pub(crate) timers: Timers,
    pub(crate) timeline: Timeline,
}

/// The rates, and how far each user has used them.
pub(crate) struct Paces {
    pub(crate) schedules: KeyedLimit,
    pub(crate) restarts: KeyedLimit,
    pub(crate) event: Pace,
}

pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) outside: Box<dyn Outside>,
    pub(crate) clock: SharedClock,
    pub(crate) random: Random,
    pub(crate) options: Options,
    pub(crate) timing: Mutex<Timing>,
    pub(crate) paces: Paces,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) guesses: Mutex<Guesses>,
    /// Users of whom something has ended since the last sweep.
    pub(crate) to_sweep: Mutex<HashSet<UserNid>>,
    /// Whether there has been a sweep since the start.
    pub(crate) swept: AtomicBool,
    /// Something may be due earlier than was known.
    pub(crate) earlier: Notify,
    /// Operations run to their ends whatever becomes of those who asked for them: memory is to learn of every commit.
    pub(crate) tasks: TaskTracker,
    pub(crate) meters: Meters,
    pub(crate) steps: Steps,
}

impl DelayedEvents {
    /// Loads everything that is scheduled. Nothing is sent before [`Self::run`].
    pub(crate) async fn with_outside(
        storage: Storage,
        outside: Box<dyn Outside>,
        clock: SharedClock,
        random: Random,
        options: Options,
    ) -> Result<Self, StoreError> {
        let timing = Timing { timers: Timers::new(), timeline: Timeline::start(&*clock, options.max_delay) };
        let paces = Paces {
            schedules: KeyedLimit::new(options.schedules, clock.clone(), &random),
            restarts: KeyedLimit::new(options.restarts_per_user, clock.clone(), &random),
            event: Pace::new(options.restarts_per_event),
        };
        let inner = Inner {
            storage,
            outside,
            clock,
            random,
            options,
            timing: Mutex::new(timing),
            paces,
            recent: Mutex::default(),
            guesses: Mutex::default(),
            to_sweep: Mutex::default(),
            swept: AtomicBool::new(false),
            earlier: Notify::new(),
            tasks: TaskTracker::new(),
            meters: Meters::new(),
            steps: Steps::new(),
        };
        inner.load().await?;
        Ok(Self(Arc::new(inner)))
    }

    /// Runs an operation to its end, even if whoever asked for it does not wait for it.
    pub(crate) async fn whole<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match self.0.tasks.spawn(operation).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Outside(error.to_string()).into()),
        }
    }

    /// The settings.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// How many events are scheduled.
    pub fn pending(&self) -> usize {
        self.0.timing.lock().timers.len()
    }

    /// Cancels everything that a user has scheduled, and answers how many events that were. Idempotent.
    ///
    /// **To be called after the commit that deactivates, erases, locks or suspends an account**, with [`CancelReason::Account`]: what an
    /// account may not do, it may not do by an earlier will either (`DELAYED_EVENTS.md` §3). Not on logout: last wills outlive sessions.
    /// Should this server end between that commit and this call, or a request that was let in before the commit schedule something after
    /// this call, nothing is sent all the same: the account is looked at again when an event is due or acted on, and the event is then
    /// cancelled for the same reason. An account that is unlocked does not get its cancelled events back.
    pub async fn cancel_all(&self, user: &UserId, reason: CancelReason) -> Result<usize, StoreError> {
        let Some(user) = self.0.outside.nid(user).await? else { return Ok(0) };
        let keys: Vec<Key> = self.0.timing.lock().timers.of_user(user).map(|timer| timer.key).collect();
        self.cancel_keys(keys, reason, |_| ()).await
    }

    /// Cancels these events, many at a time. `ended` hears how many have ended with each. Answers how many have ended.
    pub(crate) async fn cancel_keys(
        &self,
        keys: Vec<Key>,
        reason: CancelReason,
        mut ended: impl FnMut(usize),
    ) -> Result<usize, StoreError> {
        let cancel = |key: Key| {
            let inner = self.0.clone();
            self.whole(async move { inner.end(&key, Outcome::Cancelled(reason)).await })
        };
        let mut cancels = stream::iter(keys).map(cancel).buffer_unordered(AT_ONCE);
        let mut cancelled = 0;
        while let Some(count) = cancels.next().await {
            let count = count?;
            cancelled += count;
            ended(count);
        }
        Ok(cancelled)
    }
}

impl Inner {
    async fn load(&self) -> Result<(), StoreError> {
        let view = self.storage.view();
        let mut range = Some(KeyRange::prefix(&()));
        while let Some(part) = range {
            let page = view.scan::<DelayedTimers>(&part, LOAD_PAGE, Direction::Forward).await?;
            let timers = &mut self.timing.lock().timers;
            for ((key,), row) in page.rows {
                let due = row.value.due.map(|due| (due.at, Era::LOADED));
                timers.load(&timer(key, &row, due));
            }
            range = page.rest;
        }
        let timing = &mut *self.timing.lock();
        timing.timers.arrange(&timing.timeline);
        Ok(())
    }

    /// The hash under which a delay id is kept.
    pub(crate) fn key_of(&self, delay_id: &str) -> Key {
        self.storage.hash().hash16(&[b"delay_id", delay_id.as_bytes()])
    }

    /// The hash under which a group id is kept.
    pub(crate) fn key_of_group(&self, group_id: &str) -> Key {
        self.storage.hash().hash16(&[b"delay_group", group_id.as_bytes()])
    }

    /// The hash under which a token is kept.
    pub(crate) fn key_of_token(&self, token: &str) -> Key {
        self.storage.hash().hash16(&[b"delay_token", token.as_bytes()])
    }

    /// Now, on the timeline.
    pub(crate) fn now(&self) -> Moment {
        self.timing.lock().timeline.now(&*self.clock)
    }

    /// The wall clock.
    pub(crate) fn wall(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Tells memory of an event that has been scheduled or restarted, and the loop if it is due before everything else.
    pub(crate) fn learn(&self, change: impl FnOnce(&mut Timers, &Timeline)) {
        let timing = &mut *self.timing.lock();
        let before = timing.timers.next_moment();
        change(&mut timing.timers, &timing.timeline);
        let after = timing.timers.next_moment();
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.earlier.notify_one();
        }
    }

    /// Tells memory and the meters of events that have ended.
    pub(crate) fn settle(&self, ended: &[Ended]) {
        {
            let timing = &mut *self.timing.lock();
            for end in ended {
                timing.timers.remove(&end.key, &timing.timeline);
            }
        }
        let mut to_sweep = self.to_sweep.lock();
        for end in ended {
            Meters::ended(&end.outcome);
            to_sweep.insert(end.timer.value.user);
        }
    }
}

/// A row as memory keeps it.
pub(crate) fn timer(key: Key, row: &Positioned<TimerRow>, due: Option<(UnixMillis, Era)>) -> Timer {
    let order = order(row.position, row.value.place);
    Timer { key, order, user: row.value.user, room: row.value.room, generation: row.value.generation, due }
}
