//! What other servers send on their own account: transactions. Each is done once, a few of one server at a time; who sends one again while it is under
//! way waits for the same answer, and one that is done is answered without doing it again (I11).
//!
//! ```text
//! PUT /send ──► admitted ──► waiting ──► under way ──► done: noted in the store ──► answered
//!      └─ again ─────────────────┴──────────┴── waits for the same answer
//! ```
//!
//! The work is no part of the request that causes it: it goes on when the other server hangs up. A room that waits long for other servers is not waited for: it
//! goes on by itself, and the transaction is answered without it; its events are kept in the store first, so that they are judged after a kill too.

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

use federation_client::{Left, LeftPdus, ReceivedError, ReceivedTransactions};
use futures_util::future::join_all;
use parking_lot::Mutex;
use primitives::SharedClock;
use rooms::{ReceiveError, Rooms, TakenIn};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, ServerName};
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, watch},
    task::JoinError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Rows of servers that have gone quiet are looked for this often.
const SWEEP: Duration = Duration::from_hours(6);
/// A transaction waits for this long for a room, and then no more: the server that sent it gives up soon after.
const PATIENCE: Duration = Duration::from_secs(15);
/// Rooms that go on by themselves for one server. Where there are more, its transactions wait for them.
const SLOW_ROOMS: usize = 20;
/// The same for all servers together.
const SLOW_ROOMS_IN_ALL: usize = 500;
/// Rooms that go on at once with what was left to them before a start.
const RESUMED_AT_ONCE: usize = 8;

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

/// What became of a room's events; `None`: the room goes on by itself, or the server ends.
type Taken = Option<Result<Vec<TakenIn>, ReceiveError>>;

/// The transactions of other servers. Cheap to clone.
#[derive(Clone)]
pub struct Inbound(Arc<Inner>);

struct Inner {
    limits: InboundLimits,
    received: ReceivedTransactions,
    left: LeftPdus,
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
    pub fn new(received: ReceivedTransactions, left: LeftPdus, clock: SharedClock, limits: InboundLimits) -> Self {
        let (bytes, tasks, stop) = (AtomicUsize::new(0), TaskTracker::new(), CancellationToken::new());
        let (origins, slow) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { limits, received, left, clock, origins, bytes, slow, tasks, stop }))
    }

    /// How many transactions are under way or wait.
    pub fn waiting(&self) -> usize {
        self.0.origins.lock().values().map(|origin| origin.running.len()).sum()
    }

    /// Goes on with what was left to rooms before the start, and sees to what has to be done from time to time, until told to stop; then ends what is under way. What isn't done by then has no answer, and is sent again.
    pub async fn run(self, rooms: Rooms, stop: CancellationToken) {
        let (inbound, ends) = (self.clone(), self.0.stop.clone());
        self.0.tasks.spawn(ends.run_until_cancelled_owned(async move { inbound.resume(&rooms).await }));
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

    /// Has a room take in a server's events, on a task of its own. `None`: it takes long, and goes on by itself; then the events are kept until it is done.
    async fn patiently(
        &self,
        rooms: &Rooms,
        origin: &ServerName,
        room_id: OwnedRoomId,
        pdus: Vec<Box<RawValue>>,
    ) -> Taken {
        let (stop, kept) = (self.0.stop.clone(), pdus.clone());
        let (rooms, from, id) = (rooms.clone(), origin.to_owned(), room_id.clone());
        let work = async move { rooms.receive_from(&from, &id, pdus).await };
        let mut task = self.0.tasks.spawn(async move { stop.run_until_cancelled(work).await });
        tokio::select! {
            biased;
            done = &mut task => return finished(done).await,
            () = self.0.clock.sleep(PATIENCE) => {}
        }
        let Some(slow) = self.slow(origin) else { return finished(task.await).await };
        let left = match self.0.left.keep(origin, room_id.as_str(), &kept).await {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%origin, %room_id, %error, "events could not be kept: their room is waited for");
                return finished(task.await).await;
            }
        };
        let inbound = self.clone();
        self.0.tasks.spawn(async move {
            let done = task.await.ok().flatten();
            inbound.judged(&left, &done).await;
            drop(slow);
        });
        None
    }

    /// Lets go of events that a room has judged. What the end of the server broke off, or the store could not do, stays for the next start.
    async fn judged(&self, left: &Left, taken: &Taken) {
        let again = matches!(taken, None | Some(Err(ReceiveError::Unavailable | ReceiveError::Storage(_))));
        if !again && let Err(error) = self.0.left.judged(left).await {
            tracing::warn!(origin = %left.origin, room_id = left.room_id, %error, "judged events are kept for the next start");
        }
    }

    /// Goes on with the events that were left to their rooms before the start, some at once.
    async fn resume(&self, rooms: &Rooms) {
        let mut last: Option<Left> = None;
        loop {
            let mut some = Vec::with_capacity(RESUMED_AT_ONCE);
            while some.len() < RESUMED_AT_ONCE {
                match self.0.left.next(last.as_ref()).await {
                    Ok(Some(left)) => {
                        last = Some(left.clone());
                        some.push(left);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(%error, "events that were left to their rooms could not be read");
                        return;
                    }
                }
            }
            if some.is_empty() {
                return;
            }
            join_all(some.into_iter().map(|left| self.resume_one(rooms, left))).await;
        }
    }

    async fn resume_one(&self, rooms: &Rooms, mut left: Left) {
        let Ok(room_id) = RoomId::parse(&left.room_id) else {
            return self.judged(&left, &Some(Err(ReceiveError::UnknownRoom))).await;
        };
        let received = rooms.receive_from(&left.origin, &room_id, std::mem::take(&mut left.pdus)).await;
        if let Err(error) = &received {
            tracing::debug!(origin = %left.origin, %room_id, %error, "events were dropped");
        }
        self.judged(&left, &Some(received)).await;
    }

    /// A place among the rooms that go on by themselves, if there is one left for the server.
    fn slow(&self, origin: &ServerName) -> Option<Slow> {
        let mut slow = self.0.slow.lock();
        if slow.values().sum::<usize>() >= SLOW_ROOMS_IN_ALL {
            return None;
        }
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

/// What became of the events of a room that is waited for. Never returns if the end of the server broke the work off: the transaction ends with it, and must
/// not be noted as done without these events, for then nobody would send them again.
async fn finished(done: Result<Taken, JoinError>) -> Taken {
    match done {
        Ok(None) => std::future::pending().await,
        Ok(taken) => taken,
        Err(_) => None,
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
