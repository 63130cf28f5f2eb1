//! Sending to other servers: the dispatcher follows the logs of rooms and what else waits for others, and sends each server its share in
//! transactions (server-server API, "Transactions"). `docs/ARCHITECTURE.md`, "The way to other servers", says what is stored and why nothing is lost.
//!
//! One task follows (`follow.rs`) and puts into queues in memory (`queues.rs`); each server that is being sent to has one task (`sender.rs`), so
//! that it gets everything in order and one that hangs holds up nobody else. `keep.rs` writes what has to outlive the process.

mod device_lists;
mod edus;
mod ephemeral;
mod follow;
mod keep;
mod meters;
mod queues;
mod sender;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use federation_client::{Destinations, Pause};
use parking_lot::Mutex;
use ruma::OwnedServerName;
use storage::{Batch, CommitError, ReadError, Storage};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use users::StoreError;

use self::queues::Queues;
use crate::Federation;

/// How long to wait after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
/// Failing servers whose pause goes on after a restart.
const RESTORED: usize = 50_000;
/// The longest that the dispatcher sleeps when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// The bounds of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundOptions {
    /// PDUs in a transaction: at most 50.
    pub transaction_max_pdus: usize,
    /// EDUs in a transaction: at most 100.
    pub transaction_max_edus: usize,
    /// PDUs that wait in memory for one server. Beyond that it gets only the newest of each room.
    pub queue_max_pdus: usize,
    /// Ephemeral EDUs that wait for one server. Beyond that new ones are dropped.
    pub queue_max_edus: usize,
    /// Servers that are sent to at once.
    pub concurrent: usize,
}

impl Default for OutboundOptions {
    fn default() -> Self {
        Self {
            transaction_max_pdus: 50,
            transaction_max_edus: 100,
            queue_max_pdus: 500,
            queue_max_edus: 1_000,
            concurrent: 100,
        }
    }
}

/// Why something is not sent just now.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The accounts could not be read.
    #[error(transparent)]
    Accounts(#[from] StoreError),
}

/// Sends to other servers. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher(Arc<Inner>);

struct Inner {
    federation: Federation,
    destinations: Destinations,
    options: OutboundOptions,
    queues: Mutex<Queues>,
    /// A sender has ended, or a queue has become ready.
    turn: Notify,
    /// What is in memory only is being written.
    keeping: tokio::sync::Mutex<()>,
    pauses: keep::Pauses,
    /// No room's log has been followed yet since the start.
    first_round: AtomicBool,
    /// The last round through the logs was not finished.
    failed_round: AtomicBool,
    /// In the id of every transaction: no other process has or will have it.
    boot: u64,
    transactions: AtomicU64,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Dispatcher").field(&self.0.federation).finish()
    }
}

impl Dispatcher {
    /// The dispatcher of a store. A store that has never sent anything owes nobody what is in it: from here on nothing is missed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn open(
        federation: Federation,
        storage: Storage,
        options: OutboundOptions,
    ) -> Result<Self, OutboundError> {
        meters::describe();
        let boot = storage.boot_id();
        let destinations = Destinations::new(storage);
        let own = federation.keys().server_name();
        let stored = destinations.followed(own).await?;
        let followed = stored.unwrap_or_else(|| federation.rooms.reads().view().position());
        if stored.is_none() {
            let mut batch = Batch::new();
            Destinations::put_followed(&mut batch, own, followed);
            destinations.commit(batch).await?;
        }
        let queues = Mutex::new(Queues::new(options, followed));
        Ok(Self(Arc::new(Inner {
            federation,
            destinations,
            options,
            queues,
            turn: Notify::new(),
            keeping: tokio::sync::Mutex::default(),
            pauses: keep::Pauses::default(),
            first_round: AtomicBool::new(true),
            failed_round: AtomicBool::new(false),
            boot,
            transactions: AtomicU64::new(0),
        })))
    }

    /// Sends until cancelled. The owner spawns it on its tracker.
    pub async fn run(&self, cancel: CancellationToken) {
        let (senders, clock) = (TaskTracker::new(), &self.0.federation.clock);
        while let Err(error) = self.resume().await {
            error!(%error, "what other servers are owed can't be read yet");
            if cancel.run_until_cancelled(clock.sleep(AFTER_FAILURE)).await.is_none() {
                return;
            }
        }
        while !cancel.is_cancelled() {
            let followed = self.run_due().await;
            if let Err(error) = &followed {
                error!(%error, "other servers are not told of what is new");
            }
            self.start(&senders, &cancel);
            let sleep = if followed.is_ok() { self.until_next() } else { AFTER_FAILURE };
            let rooms = &self.0.federation.rooms;
            tokio::select! {
                () = cancel.cancelled() => {}
                () = rooms.reads().news(), if followed.is_ok() => {}
                () = self.0.federation.client.pauses_changed().some() => {}
                () = self.0.federation.users.to_device().outboxes().some() => {}
                () = rooms.signals().typing().some() => {}
                () = rooms.signals().presence().some() => {}
                () = self.0.federation.users.device_lists().marked().some() => {}
                () = self.0.turn.notified() => {}
                () = clock.sleep(sleep) => {}
            }
        }
        senders.close();
        senders.wait().await;
        if let Err(error) = self.keep().await {
            warn!(%error, "what was sent may be sent again after the next start");
        }
    }

    /// How many events wait in memory, and how many servers can't be reached or keep up.
    pub fn waiting(&self) -> (usize, usize) {
        self.0.queues.lock().levels()
    }

    /// Takes up what is owed since before the start.
    async fn resume(&self) -> Result<(), OutboundError> {
        let Inner { federation, destinations, .. } = &*self.0;
        let (clock, client) = (&federation.clock, &federation.client);
        let failing = destinations.failing(RESTORED).await?;
        for (server, known) in &failing {
            let pause = Pause { failures: known.failures, left: known.retry_at.since(clock.now()) };
            client.restore_pause(server, pause);
        }
        let (owed, marked) = destinations.owing().await?;
        let outboxes = federation.users.to_device().outboxes_in_use().await?;
        self.meet(failing.into_iter().map(|(server, _)| server)).await?;
        self.meet(owed.iter().chain(&marked).chain(&outboxes).cloned()).await?;
        let mut queues = self.0.queues.lock();
        for server in &owed {
            queues.resume_behind(server);
        }
        for server in marked.iter().chain(&outboxes) {
            queues.note_stored(server);
        }
        Ok(())
    }

    /// One round: reads what is new, and keeps what has to be kept.
    async fn run_due(&self) -> Result<(), OutboundError> {
        for server in self.0.federation.users.to_device().outboxes().take() {
            self.meet([server.clone()]).await?;
            self.0.queues.lock().note_stored(&server);
        }
        self.tell_typing().await?;
        self.tell_presence().await?;
        for server in self.0.federation.users.device_lists().marked().take() {
            self.meet([server.clone()]).await?;
            self.0.queues.lock().note_stored(&server);
        }
        self.follow().await?;
        self.keep_if_due().await
    }

    /// Makes the queues of servers that have none.
    async fn meet(&self, servers: impl IntoIterator<Item = OwnedServerName>) -> Result<(), OutboundError> {
        let new: Vec<_> = {
            let queues = self.0.queues.lock();
            servers.into_iter().filter(|server| !queues.knows(server)).collect()
        };
        for some in new.chunks(500) {
            let known = self.0.destinations.read(some).await?;
            let mut queues = self.0.queues.lock();
            for (server, known) in some.iter().zip(known) {
                queues.meet(server, known.acknowledged);
            }
        }
        Ok(())
    }

    /// Starts the senders whose turn it is.
    fn start(&self, senders: &TaskTracker, cancel: &CancellationToken) {
        let client = &self.0.federation.client;
        let now = self.0.federation.clock.monotonic();
        loop {
            let next = self.0.queues.lock().next(now, |server| client.pause(server).map(|pause| pause.left));
            let Some(server) = next else { return };
            let (dispatcher, cancel) = (self.clone(), cancel.clone());
            senders.spawn(async move { dispatcher.send_to(server, cancel).await });
        }
    }

    /// How long until something is due.
    fn until_next(&self) -> Duration {
        let now = self.0.federation.clock.monotonic();
        let due = self.0.queues.lock().due();
        due.map_or(LONGEST_SLEEP, |due| due.saturating_sub(now))
    }

    /// The id of a new transaction: used for one content only, now and for all time.
    fn transaction_id(&self) -> String {
        format!("{:x}-{}", self.0.boot, self.0.transactions.fetch_add(1, Ordering::Relaxed))
    }
}
