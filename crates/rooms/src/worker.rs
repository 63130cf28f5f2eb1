//! The worker of a room: the one task that writes what follows from the room's DAG (I7). It never waits for a network (I13).
//!
//! Sends that wait while a commit is under way become one group and one batch. Where a rider of one of them is overtaken, they are done
//! again one by one, so that only the one concerned fails.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use primitives::{NodeId, StreamPosition};
use ruma::OwnedEventId;

use storage::{CommitError, ReadError, schema::rooms::Verdict};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    Pdu,
    append::Appended,
    change::Change,
    context::Context,
    memory::{Memory, RoomInfo},
    outgoing::{Outgoing, Rider, SendError, Sent},
    partial::{PartialRequest, Replayed},
    receive::{Prepared, ReceiveError, Received},
    registry::Workers,
    staging::{Begin, StageError, StageRequest},
};

/// Sends that become one batch.
const GROUP: usize = 50;
/// Requests that wait for one worker; more wait with whoever sends them.
pub(crate) const INBOX: usize = 200;
/// A worker that hears nothing for this long is unloaded.
const IDLE: Duration = Duration::from_mins(5);
/// Attempts at a group whose head was not what the worker took it for.
const ATTEMPTS: usize = 2;

/// What a worker is asked.
pub(crate) enum Request {
    /// Make and send an event.
    Send(SendRequest),
    /// Make an event, and keep nothing of it.
    Draft(DraftRequest),
    /// Take in an own event that another server has signed.
    ReceiveOwn(ReceiveOwnRequest),
    /// Take in events that were made elsewhere.
    Receive(ReceiveRequest),
    /// Take in history.
    History(ReceiveRequest),
    /// Put the room together.
    Stage(StageRequest),
    /// Bring a partial state closer to a whole one.
    Partial(PartialRequest),
}

/// An event to be made, and who waits for it.
pub(crate) struct SendRequest {
    pub(crate) outgoing: Box<Outgoing>,
    pub(crate) reply: oneshot::Sender<Result<Appending, SendError>>,
}

/// What became of an event to be made.
pub(crate) enum Appending {
    /// It is sent.
    Sent(Sent),
    /// The room's policy server has to sign it first: the event, and what it was made of. Nothing is stored.
    Unsigned(Pdu, Box<Outgoing>),
}

/// An own event that was not taken in. Nothing is stored.
pub(crate) struct NotTaken {
    pub(crate) error: SendError,
    /// What was to go with it, if it was the event's place that was not good any more: it can be made anew.
    pub(crate) riders: Option<Vec<Rider>>,
}

/// An event that another server has to sign, or is to make, before it is sent; and who waits for it.
pub(crate) struct DraftRequest {
    pub(crate) outgoing: Box<Outgoing>,
    pub(crate) reply: oneshot::Sender<Result<Pdu, SendError>>,
}

/// An own event that another server has signed too, what goes with it, and who waits for it.
pub(crate) struct ReceiveOwnRequest {
    pub(crate) event: Prepared,
    pub(crate) riders: Vec<Rider>,
    pub(crate) reply: oneshot::Sender<Result<Sent, NotTaken>>,
}

/// Events made elsewhere, and who waits for the verdicts.
pub(crate) struct ReceiveRequest {
    pub(crate) events: Vec<Prepared>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Received>, ReceiveError>>,
}

/// A room's worker.
pub(crate) struct Worker {
    context: Arc<Context>,
    workers: Arc<Workers>,
    info: Arc<RoomInfo>,
    inbox: mpsc::Receiver<Request>,
    /// Requests taken out of the inbox and not done yet.
    waiting: VecDeque<Request>,
    memory: Option<Memory>,
    cancel: CancellationToken,
}

impl Worker {
    pub(crate) fn new(
        context: Arc<Context>,
        workers: Arc<Workers>,
        info: Arc<RoomInfo>,
        inbox: mpsc::Receiver<Request>,
        cancel: CancellationToken,
    ) -> Self {
        Self { context, workers, info, inbox, waiting: VecDeque::new(), memory: None, cancel }
    }

    /// Works until nothing comes for a while, or until the server ends and everything asked is done.
    pub(crate) async fn run(mut self) {
        while let Some(request) = self.next().await {
            match request {
                Request::Send(first) => {
                    let group = self.gather(first);
                    self.send_group(group).await;
                }
                Request::Draft(request) => {
                    let drafted = self.draft(&request.outgoing).await;
                    drop(request.reply.send(drafted));
                }
                Request::ReceiveOwn(request) => {
                    let ReceiveOwnRequest { event, riders, reply } = request;
                    let received = self.receive_own(event, &riders).await.map_err(|error| {
                        let elsewhere = matches!(error, SendError::Forbidden { .. });
                        NotTaken { error, riders: elsewhere.then_some(riders) }
                    });
                    drop(reply.send(received));
                }
                Request::Receive(request) => self.receive(request).await,
                Request::History(request) => self.take_history(request).await,
                Request::Stage(request) => self.stage(request).await,
                Request::Partial(request) => self.partial(request).await,
            }
        }
    }

    async fn next(&mut self) -> Option<Request> {
        loop {
            if let Some(request) = self.waiting.pop_front() {
                return Some(request);
            }
            tokio::select! {
                biased;
                request = self.inbox.recv() => return request,
                () = self.cancel.cancelled() => {
                    self.inbox.close();
                    return self.inbox.recv().await;
                }
                () = self.context.clock.sleep(IDLE) => {
                    if let Some(fresh) = self.workers.retire(self.info.nid, &mut self.inbox, &mut self.waiting) {
                        let mut old = std::mem::replace(&mut self.inbox, fresh);
                        while let Some(request) = old.recv().await {
                            self.waiting.push_back(request);
                        }
                    } else {
                        return None;
                    }
                }
            }
        }
    }

    /// The sends that wait already, up to a group's size, without overtaking anything else.
    fn gather(&mut self, first: SendRequest) -> Vec<SendRequest> {
        let mut group = vec![first];
        while group.len() < GROUP {
            match self.waiting.pop_front().or_else(|| self.inbox.try_recv().ok()) {
                Some(Request::Send(request)) => group.push(request),
                Some(other) => {
                    self.waiting.push_front(other);
                    break;
                }
                None => break,
            }
        }
        group
    }

    /// Sends a group as one batch. What has to be done in another change goes back to the front of the queue.
    async fn send_group(&mut self, group: Vec<SendRequest>) {
        let mut redo = VecDeque::from([group]);
        let mut attempts = 0;
        while let Some(group) = redo.pop_front() {
            let alone = group.len() == 1;
            match self.try_group(group).await {
                Ok(()) => attempts = 0,
                Err(Failed::Overtaken(group)) if alone => refuse(group, || SendError::RiderConflict),
                Err(Failed::Overtaken(group)) => group.into_iter().rev().for_each(|one| redo.push_front(vec![one])),
                Err(Failed::StaleMemory(group)) if attempts < ATTEMPTS => {
                    attempts += 1;
                    redo.push_front(group);
                }
                Err(Failed::StaleMemory(group)) => refuse(group, || SendError::Unavailable),
            }
        }
    }

    async fn try_group(&mut self, group: Vec<SendRequest>) -> Result<(), Failed> {
        let change = match self.change().await {
            Ok(Some(change)) => change,
            Ok(None) => {
                refuse(group, || SendError::UnknownRoom);
                return Ok(());
            }
            Err(error) => {
                self.give_up(group, &error);
                return Ok(());
            }
        };
        match self.fill(change, group).await {
            Some((change, done)) if change.is_empty() => {
                for done in done {
                    let position = done.position;
                    done.answer(position);
                }
                Ok(())
            }
            Some((change, done)) => self.settle(change, done).await,
            None => Ok(()),
        }
    }

    /// Makes the events of a group. Answers those that are refused, and puts back what has to wait for another change. `None`: the store
    /// failed, and everybody has been told.
    async fn fill(&mut self, mut change: Change, group: Vec<SendRequest>) -> Option<(Change, Vec<Done>)> {
        let mut done: Vec<Done> = Vec::with_capacity(group.len());
        let mut requests = group.into_iter();
        while let Some(request) = requests.next() {
            if !done.is_empty() {
                // A full group takes as long as fifty events: others' requests are not to wait for the whole of it.
                tokio::task::yield_now().await;
            }
            match change.append(&request.outgoing).await {
                Ok(Appended::Done { event_id, position, asserts }) => {
                    done.push(Done { request, event_id, position, asserts });
                }
                Ok(Appended::Unsigned(pdu)) => {
                    let SendRequest { outgoing, reply } = request;
                    drop(reply.send(Ok(Appending::Unsigned(pdu, outgoing))));
                }
                Ok(Appended::Overlaps) => {
                    let rest: Vec<_> = std::iter::once(request).chain(requests.by_ref()).collect();
                    rest.into_iter().rev().for_each(|request| self.waiting.push_front(Request::Send(request)));
                }
                Err(SendError::Storage(error)) => {
                    // The change may be half done: nothing of it is written.
                    let all = done.into_iter().map(|done| done.request).chain([request]).chain(requests);
                    self.give_up(all.collect(), &error);
                    return None;
                }
                // Whoever asked may be gone.
                Err(error) => drop(request.reply.send(Err(error))),
            }
        }
        Some((change, done))
    }

    /// Commits a change and tells those whose events are in it.
    async fn settle(&mut self, change: Change, done: Vec<Done>) -> Result<(), Failed> {
        let error = match change.commit().await {
            Ok((memory, position)) => {
                self.memory = Some(memory);
                for done in done {
                    done.answer(position);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        let overtaken = match error {
            CommitError::Conflict(index) => done.iter().any(|done| done.asserts.contains(&index)),
            CommitError::TooLarge(_) => done.len() > 1,
            CommitError::ValueTooLarge { .. } | CommitError::Failed(_) => false,
        };
        let group = done.into_iter().map(|done| done.request).collect();
        if overtaken {
            return Err(Failed::Overtaken(group));
        }
        self.memory = None;
        tracing::error!(room_id = %self.info.room_id, %error, "events could not be written");
        match error {
            CommitError::Conflict(_) => Err(Failed::StaleMemory(group)),
            CommitError::TooLarge(_) | CommitError::ValueTooLarge { .. } => {
                let reason = error.to_string();
                refuse(group, || SendError::TooLarge { reason: reason.clone() });
                Ok(())
            }
            CommitError::Failed(_) => {
                refuse(group, || SendError::Unavailable);
                Ok(())
            }
        }
    }

    /// A change on top of what is stored; `None` if the room is not there any more.
    async fn change(&mut self) -> Result<Option<Change>, ReadError> {
        let view = self.context.storage.view();
        if self.memory.is_none() {
            self.memory = Memory::load(&view, Arc::clone(&self.info)).await?;
        }
        let Some(memory) = &mut self.memory else { return Ok(None) };
        memory.prune();
        Ok(Some(Change::new(Arc::clone(&self.context), view, memory.clone())))
    }

    fn give_up(&mut self, group: Vec<SendRequest>, error: &ReadError) {
        tracing::error!(room_id = %self.info.room_id, %error, "a room could not be read");
        self.memory = None;
        refuse(group, || SendError::Unavailable);
    }

    /// An event as it would stand at the end of the room now, allowed by the state there.
    async fn draft(&mut self, outgoing: &Outgoing) -> Result<Pdu, SendError> {
        let mut change = self.change().await?.ok_or(SendError::UnknownRoom)?;
        let built = change.build(outgoing).await?;
        change.authorise_own(&built).await?;
        Ok(built.pdu)
    }

    /// Stores an own event that another server has signed, with its riders, or nothing: as if it had just been made, but for its place.
    async fn receive_own(&mut self, event: Prepared, riders: &[Rider]) -> Result<Sent, SendError> {
        let mut change = self.change().await?.ok_or(SendError::UnknownRoom)?;
        for unchanged in riders.iter().filter_map(|rider| rider.unchanged.as_ref()) {
            change.check_unchanged(unchanged).await?;
        }
        let received = change.take_in(&[event]).await?;
        let event_id = match received.into_iter().next() {
            Some(Received::Stored(id, Verdict::Accepted)) => id,
            Some(Received::Stored(_, Verdict::Rejected(reason) | Verdict::SoftFailed(reason))) => {
                return Err(SendError::forbidden(reason));
            }
            Some(Received::Invalid(reason)) => return Err(SendError::bad(reason)),
            Some(Received::Missing(..)) | None => return Err(SendError::Unavailable),
        };
        let mut asserts = Vec::new();
        for rider in riders {
            asserts.extend(change.batch.merge((rider.batch)(&event_id)));
        }
        change.merge_extremities().await?;
        match change.commit().await {
            Ok((memory, position)) => {
                self.memory = Some(memory);
                Ok(Sent { event_id, position })
            }
            Err(CommitError::Conflict(index)) if asserts.contains(&index) => Err(SendError::RiderConflict),
            Err(error) => {
                self.memory = None;
                Err(error.into())
            }
        }
    }

    async fn receive(&mut self, request: ReceiveRequest) {
        let outcome = self.try_receive(&request.events).await;
        if let Err(error) = &outcome {
            tracing::warn!(room_id = %self.info.room_id, %error, "received events could not be taken in");
            self.memory = None;
        }
        drop(request.reply.send(outcome));
    }

    /// Takes events in, at once if what they cause fits a batch, and otherwise half by half.
    async fn try_receive(&mut self, events: &[Prepared]) -> Result<Vec<Received>, ReceiveError> {
        if let Some(verdicts) = self.receive_at_once(events).await? {
            return Ok(verdicts);
        }
        let [first, second] = match events {
            [] => return Ok(Vec::new()),
            [_] => return Ok(vec![Received::Invalid("what follows from it is too large to be written".to_owned())]),
            events => <[_; 2]>::from(events.split_at(events.len() / 2)),
        };
        let mut verdicts = Box::pin(self.try_receive(first)).await?;
        verdicts.extend(Box::pin(self.try_receive(second)).await?);
        // Some of the first half may have waited for some of the second.
        let is_missing = |verdict: &Received| matches!(verdict, Received::Missing(..));
        let waiting: Vec<_> = (0..first.len()).filter(|at| is_missing(&verdicts[*at])).collect();
        if !waiting.is_empty() && verdicts[first.len()..].iter().any(|verdict| !is_missing(verdict)) {
            let events: Vec<_> = waiting.iter().map(|at| first[*at].clone()).collect();
            for (at, verdict) in waiting.into_iter().zip(Box::pin(self.try_receive(&events)).await?) {
                verdicts[at] = verdict;
            }
        }
        Ok(verdicts)
    }

    /// Takes events in with one batch; `None` if that would be too large.
    async fn receive_at_once(&mut self, events: &[Prepared]) -> Result<Option<Vec<Received>>, ReceiveError> {
        let mut change = self.change().await?.ok_or(ReceiveError::UnknownRoom)?;
        let verdicts = change.take_in(events).await?;
        change.merge_extremities().await?;
        if change.is_empty() {
            return Ok(Some(verdicts));
        }
        if events.len() > 1 && change.batch.size() > self.context.options.receive_batch_max_bytes {
            return Ok(None);
        }
        match change.commit().await {
            Ok((memory, _)) => {
                self.memory = Some(memory);
                Ok(Some(verdicts))
            }
            Err(CommitError::TooLarge(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Worker {
    async fn take_history(&mut self, request: ReceiveRequest) {
        let outcome = self.try_history(&request.events).await;
        if let Err(error) = &outcome {
            tracing::warn!(room_id = %self.info.room_id, %error, "history could not be taken in");
            self.memory = None;
        }
        drop(request.reply.send(outcome));
    }

    async fn try_history(&mut self, events: &[Prepared]) -> Result<Vec<Received>, ReceiveError> {
        let mut change = self.change().await?.ok_or(ReceiveError::UnknownRoom)?;
        let verdicts = change.take_in_history(events).await?;
        if !change.is_empty() {
            let (memory, _) = change.commit().await?;
            self.memory = Some(memory);
        }
        Ok(verdicts)
    }
}

impl Worker {
    async fn stage(&mut self, request: StageRequest) {
        match request {
            StageRequest::State { root, ids, reply } => {
                let outcome = self.stage_state(root, &ids).await;
                drop(reply.send(self.staged(outcome)));
            }
            StageRequest::Begin { begin, reply } => {
                let outcome = self.begin(*begin).await;
                drop(reply.send(self.staged(outcome)));
            }
        }
    }

    /// After an error of the store nothing is certain of what the worker remembers.
    fn staged<T>(&mut self, outcome: Result<T, StageError>) -> Result<T, StageError> {
        if let Err(error @ (StageError::Storage(_) | StageError::Unavailable)) = &outcome {
            tracing::warn!(room_id = %self.info.room_id, %error, "a room could not be put together");
            self.memory = None;
        }
        outcome
    }

    async fn stage_state(&mut self, root: NodeId, ids: &[OwnedEventId]) -> Result<NodeId, StageError> {
        let mut change = self.change().await?.ok_or(StageError::Unavailable)?;
        let root = change.stage_state(root, ids).await?;
        let (memory, _) = change.commit().await.map_err(|_| StageError::Unavailable)?;
        self.memory = Some(memory);
        Ok(root)
    }

    async fn begin(&mut self, begin: Begin) -> Result<(), StageError> {
        let mut change = self.change().await?.ok_or(StageError::Unavailable)?;
        if !change.begin(&begin).await? {
            return Ok(());
        }
        let riders = change.batch.merge(begin.rider);
        match change.commit().await {
            Ok((memory, _)) => {
                self.memory = Some(memory);
                Ok(())
            }
            Err(CommitError::Conflict(index)) if riders.contains(&index) => Err(StageError::RiderConflict),
            Err(_) => Err(StageError::Unavailable),
        }
    }
}

impl Worker {
    async fn partial(&mut self, request: PartialRequest) {
        match request {
            PartialRequest::Give { number, given, reply } => {
                let outcome = self.give_states(number, given).await;
                drop(reply.send(self.staged(outcome)));
            }
            PartialRequest::Replay { reply } => {
                let outcome = self.replay().await;
                drop(reply.send(self.staged(outcome)));
            }
        }
    }

    async fn give_states(&mut self, number: u32, given: Result<Vec<NodeId>, Vec<String>>) -> Result<(), StageError> {
        let mut change = self.change().await?.ok_or(StageError::Unavailable)?;
        change.give_states(number, given).await?;
        let (memory, _) = change.commit().await.map_err(|_| StageError::Unavailable)?;
        self.memory = Some(memory);
        Ok(())
    }

    async fn replay(&mut self) -> Result<Replayed, StageError> {
        let mut change = self.change().await?.ok_or(StageError::Unavailable)?;
        let replayed = change.replay().await?;
        if matches!(replayed, Replayed::Waits | Replayed::Refused(..)) || change.is_empty() {
            return Ok(replayed);
        }
        let (memory, _) = change.commit().await.map_err(|_| StageError::Unavailable)?;
        self.memory = Some(memory);
        Ok(replayed)
    }
}

/// An event that is part of a change, and who waits for it.
struct Done {
    request: SendRequest,
    event_id: OwnedEventId,
    position: StreamPosition,
    asserts: Range<usize>,
}

impl Done {
    fn answer(self, position: StreamPosition) {
        // Whoever asked may be gone; the event is sent all the same.
        let sent = Sent { event_id: self.event_id, position };
        drop(self.request.reply.send(Ok(Appending::Sent(sent))));
    }
}

/// Why a group is to be tried again, with those of it that are not answered yet.
enum Failed {
    Overtaken(Vec<SendRequest>),
    StaleMemory(Vec<SendRequest>),
}

fn refuse(group: Vec<SendRequest>, error: impl Fn() -> SendError) {
    for request in group {
        drop(request.reply.send(Err(error())));
    }
}
