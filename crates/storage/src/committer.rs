//! The committer: the only writer. It takes waiting batches as a group, checks them, writes them at once, makes them durable, and only
//! then shows them and tells the callers.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use primitives::{SharedClock, StreamPosition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use crate::{
    Batch, CommitError, Durability,
    engine::Engine,
    faults::{Faults, Halt, Step},
    group, meters,
    view::Seen,
};

/// The most batches that are written as one.
const GROUP_BATCHES: usize = 256;
/// A group that has reached this many bytes takes no further batch.
const GROUP_BYTES: usize = 16 << 20;
/// What may wait for the committer: so many permits of so many bytes each. A batch takes one at least.
const QUEUE_PERMITS: usize = 4096;
const PERMIT_BYTES: usize = 16 << 10;
/// How often an idle committer asks the engine whether anything has gone wrong in the background.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);

type Outcome = Result<StreamPosition, CommitError>;

/// What the committer shows to everyone else.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The newest view.
    pub(crate) seen: ArcSwap<Seen>,
    /// Its position.
    pub(crate) visible: watch::Sender<StreamPosition>,
    /// Why nothing can be committed any more.
    pub(crate) failed: watch::Sender<Option<String>>,
}

impl Shared {
    pub(crate) fn new(seen: Seen) -> Arc<Self> {
        Arc::new(Self {
            visible: watch::Sender::new(seen.position),
            seen: ArcSwap::from_pointee(seen),
            failed: watch::Sender::new(None),
        })
    }
}

/// A batch on its way, and who waits for it.
pub(crate) struct Pending {
    batch: Batch,
    reply: oneshot::Sender<Outcome>,
    queued: Duration,
    /// Held until the batch is done with: bounds the queue.
    permit: Option<OwnedSemaphorePermit>,
}

/// The committer's work, without a thread.
pub(crate) struct Core {
    pub(crate) engine: Engine,
    pub(crate) durability: Durability,
    pub(crate) shared: Arc<Shared>,
    pub(crate) faults: Faults,
    pub(crate) clock: SharedClock,
    /// Nothing is written after this is set.
    pub(crate) halted: Option<Halt>,
}

impl Core {
    /// Commits batches as one group; the outcomes are in their order.
    pub(crate) fn commit(&mut self, batches: Vec<Batch>) -> Vec<Outcome> {
        let count = batches.len();
        if self.halted.is_none() {
            match self.try_commit(batches) {
                Ok(outcomes) => return outcomes,
                Err(halt) => self.halt(halt),
            }
        }
        let reason = self.halted.as_ref().map(Halt::to_string).unwrap_or_default();
        (0..count).map(|_| Err(CommitError::Failed(reason.clone()))).collect()
    }

    fn try_commit(&mut self, batches: Vec<Batch>) -> Result<Vec<Outcome>, Halt> {
        self.faults.reach(Step::Check)?;
        let seen = self.shared.seen.load_full();
        let group = group::prepare(&seen.snapshot, seen.position, batches)?;
        drop(seen);
        if !group.writes.is_empty() {
            self.faults.reach(Step::Write)?;
            self.engine.write(group.writes)?;
            self.faults.reach(Step::Sync)?;
            if self.durability == Durability::Sync {
                self.engine.sync()?;
            }
            self.check_engine()?;
            self.faults.reach(Step::Publish)?;
            self.shared.seen.store(Arc::new(Seen { snapshot: self.engine.snapshot(), position: group.last }));
            self.shared.visible.send_replace(group.last);
        }
        self.faults.reach(Step::Acknowledge)?;
        meters::group(&group.outcomes, group.last);
        Ok(group.outcomes)
    }

    fn check_engine(&self) -> Result<(), Halt> {
        self.engine.failure().map_or(Ok(()), |reason| Err(Halt::Failed(reason)))
    }

    fn halt(&mut self, halt: Halt) {
        let reason = halt.to_string();
        tracing::error!(%reason, "the store can no longer write");
        self.shared.failed.send_replace(Some(reason));
        self.halted = Some(halt);
    }

    /// Commits what waits and answers those who wait.
    fn serve(&mut self, group: Vec<Pending>) {
        let (batches, waiting): (Vec<_>, Vec<_>) =
            group.into_iter().map(|p| (p.batch, (p.reply, p.queued, p.permit))).unzip();
        for (outcome, (reply, queued, _permit)) in self.commit(batches).into_iter().zip(waiting) {
            meters::waited(self.clock.monotonic().saturating_sub(queued));
            // A caller that no longer waits gave up its interest in the outcome, not the batch.
            let _ = reply.send(outcome);
        }
    }

    fn close(&mut self) -> Result<(), CommitError> {
        if let Some(halt) = &self.halted {
            return if *halt == Halt::Closed { Ok(()) } else { Err(CommitError::Failed(halt.to_string())) };
        }
        self.halted = Some(Halt::Closed);
        self.engine.sync().and_then(|()| self.engine.close()).map_err(|e| CommitError::Failed(e.0))
    }
}

pub(crate) enum Message {
    Commit(Pending),
    Close(oneshot::Sender<Result<(), CommitError>>),
}

/// The way to the committer.
pub(crate) enum Committer {
    /// It has a thread of its own, because syncing blocks.
    Thread {
        /// `None` once the store is dropped.
        queue: Option<mpsc::Sender<Message>>,
        permits: Arc<Semaphore>,
        thread: Option<JoinHandle<()>>,
        clock: SharedClock,
    },
    /// It runs in the callers, because nothing blocks.
    Inline(Mutex<Core>),
}

impl Committer {
    /// Starts the committer, on a thread or in its callers.
    pub(crate) fn start(core: Core, threaded: bool) -> std::io::Result<Self> {
        if !threaded {
            return Ok(Self::Inline(Mutex::new(core)));
        }
        meters::describe();
        let (queue, messages) = mpsc::channel();
        let clock = Arc::clone(&core.clock);
        let thread = std::thread::Builder::new().name("committer".to_owned()).spawn(move || work(core, &messages))?;
        Ok(Self::Thread {
            queue: Some(queue),
            permits: Arc::new(Semaphore::new(QUEUE_PERMITS)),
            thread: Some(thread),
            clock,
        })
    }

    /// Hands a batch over and waits for its outcome.
    pub(crate) async fn commit(&self, batch: Batch) -> Outcome {
        let (queue, permits, clock) = match self {
            Self::Inline(core) => return core.lock().commit(vec![batch]).pop().expect("one batch has one outcome"),
            Self::Thread { queue, permits, clock, .. } => (queue, permits, clock),
        };
        let wanted = u32::try_from(1 + batch.size() / PERMIT_BYTES).unwrap_or(u32::MAX);
        let permit = Arc::clone(permits).acquire_many_owned(wanted).await.ok();
        let (reply, outcome) = oneshot::channel();
        let pending = Pending { batch, reply, queued: clock.monotonic(), permit };
        let queue = queue.as_ref().expect("the queue is open as long as the store lives");
        let gone = |_| CommitError::Failed("the committer has ended".to_owned());
        queue.send(Message::Commit(pending)).map_err(|_| CommitError::Failed("the committer has ended".to_owned()))?;
        outcome.await.map_err(gone)?
    }

    /// Commits what waits, then puts the engine in order. Every commit after this fails.
    pub(crate) async fn close(&self) -> Result<(), CommitError> {
        match self {
            Self::Inline(core) => core.lock().close(),
            Self::Thread { queue, .. } => {
                let (reply, done) = oneshot::channel();
                let queue = queue.as_ref().expect("the queue is open as long as the store lives");
                let gone = || CommitError::Failed("the committer has ended".to_owned());
                queue.send(Message::Close(reply)).map_err(|_| gone())?;
                done.await.map_err(|_| gone())?
            }
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Self::Thread { queue, thread, .. } = self {
            *queue = None;
            if let Some(Err(_)) = thread.take().map(JoinHandle::join) {
                tracing::error!("the committer has panicked");
            }
        }
    }
}

/// Tells the server to end when the committer's thread ends by a panic: nobody else would notice.
struct Alarm(Arc<Shared>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.send_replace(Some("the committer has panicked".to_owned()));
        }
    }
}

fn work(mut core: Core, messages: &mpsc::Receiver<Message>) {
    let _alarm = Alarm(Arc::clone(&core.shared));
    loop {
        match messages.recv_timeout(HEALTH_INTERVAL) {
            Ok(Message::Commit(first)) => {
                let (group, closing) = gather(first, messages);
                core.serve(group);
                if let Some(reply) = closing {
                    let _ = reply.send(core.close());
                }
            }
            Ok(Message::Close(reply)) => {
                let _ = reply.send(core.close());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if core.halted.is_none()
                    && let Err(halt) = core.check_engine()
                {
                    core.halt(halt);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Everything that waits already, up to the bounds of a group.
fn gather(
    first: Pending,
    messages: &mpsc::Receiver<Message>,
) -> (Vec<Pending>, Option<oneshot::Sender<Result<(), CommitError>>>) {
    let mut bytes = first.batch.size();
    let mut group = vec![first];
    while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
        match messages.try_recv() {
            Ok(Message::Commit(pending)) => {
                bytes += pending.batch.size();
                group.push(pending);
            }
            Ok(Message::Close(reply)) => return (group, Some(reply)),
            Err(_) => break,
        }
    }
    (group, None)
}
