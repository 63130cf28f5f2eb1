//! What other servers send on their own account: transactions. Each is done once, a few of one server at a time; who sends one again while it is under
//! way waits for the same answer, and one that is done is answered without doing it again (I11).
//!
//! ```text
//! PUT /send ──► admitted ──► waiting ──► under way ──► done: noted in the store ──► answered
//!      └─ again ─────────────────┴──────────┴── waits for the same answer
//! ```
//!
//! The work is no part of the request that causes it: it goes on when the other server hangs up. A room that waits long for other servers is not waited for: it
//! goes on by itself, and the transaction is answered without it.

mod devices;
pub(crate) mod edu;
mod ephemeral;
mod pdus;
pub(crate) mod transaction;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use federation_client::{ReceivedError, ReceivedTransactions};
use parking_lot::Mutex;
use primitives::SharedClock;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Rows of servers that have gone quiet are looked for this often.
const SWEEP: Duration = Duration::from_hours(6);
/// A transaction waits for this long for a room, and then no more: the server that sent it gives up soon after.
const PATIENCE: Duration = Duration::from_secs(15);
/// Rooms that go on by themselves for one server. Where there are more, its transactions wait for them.
const SLOW_ROOMS: usize = 20;

/// How much of other servers' transactions is worked on, and how much waits.
#[derive(Clone, Copy, Debug)]
pub struct InboundLimits {
    /// PDUs in one transaction.
    pub transaction_max_pdus: usize,
    /// EDUs in one transaction.
    pub transaction_max_edus: usize,
    /// Transactions of one server under way at once.
    pub concurrent_per_origin: usize,
    /// Transactions of one server that wait; more are refused.
    pub queued_per_origin: usize,
    /// Bytes of all transactions under way and waiting, all servers together; more are refused.
    pub queued_max_bytes: usize,
}

impl Default for InboundLimits {
    fn default() -> Self {
        Self {
            transaction_max_pdus: 50,
            transaction_max_edus: 100,
            concurrent_per_origin: 3,
            queued_per_origin: 50,
            queued_max_bytes: 256 << 20,
        }
    }
}

/// Why a transaction has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Too much of that server, or of all, waits already.
    #[error("too many transactions are waiting")]
    TooMany,
    /// It could not be done now; the server should send it again.
    #[error("the transaction could not be done")]
    Failed,
}

/// What a transaction is answered: JSON.
type Answer = Result<Arc<str>, Refused>;

/// The transactions of other servers. Cheap to clone.
#[derive(Clone)]
pub struct Inbound(Arc<Inner>);

struct Inner {
    limits: InboundLimits,
    received: ReceivedTransactions,
    clock: SharedClock,
    origins: Mutex<HashMap<OwnedServerName, Origin>>,
    /// Bytes of the transactions under way and waiting.
    bytes: AtomicUsize,
    /// How many rooms go on by themselves, by server.
    slow: Mutex<HashMap<OwnedServerName, usize>>,
    tasks: TaskTracker,
    /// Ends the tasks: what they have not done is sent again.
    stop: CancellationToken,
}

/// What one server has under way or waiting.
struct Origin {
    turns: Arc<Semaphore>,
    running: HashMap<String, watch::Receiver<Option<Answer>>>,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").field("limits", &self.0.limits).finish_non_exhaustive()
    }
}

impl Inbound {
    /// Nothing is under way yet.
    pub fn new(received: ReceivedTransactions, clock: SharedClock, limits: InboundLimits) -> Self {
        let (bytes, tasks, stop) = (AtomicUsize::new(0), TaskTracker::new(), CancellationToken::new());
        let (origins, slow) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { limits, received, clock, origins, bytes, slow, tasks, stop }))
    }

    /// How many transactions are under way or wait.
    pub fn waiting(&self) -> usize {
        self.0.origins.lock().values().map(|origin| origin.running.len()).sum()
    }

    /// Sees to what has to be done from time to time, until told to stop; then ends what is under way. What isn't done by then has no answer, and is sent again.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.0.clock.sleep(SWEEP) => {}
            }
            if let Err(error) = self.0.received.sweep().await {
                tracing::warn!(%error, "old transactions of other servers could not be dropped");
            }
        }
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Does a part of a server's transaction on a task of its own. `None`: it takes long, and goes on by itself.
    async fn patiently<T: Send + 'static>(
        &self,
        origin: &ServerName,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let stop = self.0.stop.clone();
        let mut task = self.0.tasks.spawn(async move { stop.run_until_cancelled(work).await });
        tokio::select! {
            biased;
            done = &mut task => return done.ok().flatten(),
            () = self.0.clock.sleep(PATIENCE) => {}
        }
        let Some(slow) = self.slow(origin) else { return task.await.ok().flatten() };
        self.0.tasks.spawn(async move {
            drop(task.await);
            drop(slow);
        });
        None
    }

    /// A place among the rooms that go on by themselves, if there is one left for the server.
    fn slow(&self, origin: &ServerName) -> Option<Slow> {
        let mut slow = self.0.slow.lock();
        let count = slow.entry(origin.to_owned()).or_default();
        if *count >= SLOW_ROOMS {
            return None;
        }
        *count += 1;
        Some(Slow { inbound: self.clone(), origin: origin.to_owned() })
    }

    fn limits(&self) -> &InboundLimits {
        &self.0.limits
    }

    /// Does a transaction of this many bytes, unless it is done or under way; answers with what the work answers. The record that it is done is
    /// written after the work.
    async fn once(
        &self,
        origin: &ServerName,
        txn_id: &str,
        bytes: usize,
        work: impl Future<Output = String> + Send + 'static,
    ) -> Answer {
        let mut answer = self.admit(origin, txn_id, bytes, work)?;
        // A task that dies takes the sender with it.
        match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().unwrap_or(Err(Refused::Failed)),
            Err(_) => Err(Refused::Failed),
        }
    }

    /// Starts the work, or finds that it has been started. It waits for its turn by itself.
    fn admit(
        &self,
        origin: &ServerName,
        txn_id: &str,
        bytes: usize,
        work: impl Future<Output = String> + Send + 'static,
    ) -> Result<watch::Receiver<Option<Answer>>, Refused> {
        let limits = &self.0.limits;
        let mut origins = self.0.origins.lock();
        let of_origin = origins.entry(origin.to_owned()).or_insert_with(|| Origin {
            turns: Arc::new(Semaphore::new(limits.concurrent_per_origin.max(1))),
            running: HashMap::new(),
        });
        if let Some(running) = of_origin.running.get(txn_id) {
            return Ok(running.clone());
        }
        let full = of_origin.running.len() >= limits.concurrent_per_origin.max(1) + limits.queued_per_origin;
        let waiting = self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        if full || (waiting > 0 && waiting + bytes > limits.queued_max_bytes) {
            self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
            return Err(Refused::TooMany);
        }
        let (sender, receiver) = watch::channel(None);
        of_origin.running.insert(txn_id.to_owned(), receiver.clone());
        let turns = Arc::clone(&of_origin.turns);
        let place = Place { inbound: self.clone(), origin: origin.to_owned(), txn_id: txn_id.to_owned(), bytes };
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(stop.run_until_cancelled_owned(async move {
            // Never closed.
            let turn = turns.acquire().await;
            let answer = place.inbound.perform(&place.origin, &place.txn_id, work).await;
            drop((turn, place));
            sender.send_replace(Some(answer));
        }));
        Ok(receiver)
    }

    async fn perform(&self, origin: &ServerName, txn_id: &str, work: impl Future<Output = String>) -> Answer {
        let failed = |error: ReceivedError| {
            tracing::error!(%origin, %error, "a transaction of another server could not be done");
            Refused::Failed
        };
        let known = self.0.received.answer(origin, txn_id).await.map_err(|error| failed(error.into()))?;
        if let Some(answer) = known {
            return Ok(answer.into());
        }
        let answer = work.await;
        self.0.received.done(origin, txn_id, answer.clone()).await.map_err(failed)?;
        Ok(answer.into())
    }
}

/// A transaction's place among those of its server, given back when it is done or its task dies.
struct Place {
    inbound: Inbound,
    origin: OwnedServerName,
    txn_id: String,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inbound.0.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let mut origins = self.inbound.0.origins.lock();
        if let Some(of_origin) = origins.get_mut(&self.origin) {
            of_origin.running.remove(&self.txn_id);
            if of_origin.running.is_empty() {
                origins.remove(&self.origin);
            }
        }
    }
}

/// A room that goes on by itself.
struct Slow {
    inbound: Inbound,
    origin: OwnedServerName,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let mut slow = self.inbound.0.slow.lock();
        if let Some(count) = slow.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                slow.remove(&self.origin);
            }
        }
    }
}
