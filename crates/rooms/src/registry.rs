//! The rooms of this server: opening them, finding them, and the workers that write them.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    ops::Range,
    sync::Arc,
};

use parking_lot::Mutex;
use primitives::{Random, RoomNid, ServerKey, SharedClock};
use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, RoomId};
use storage::{
    Batch, CommitError, ReadError, Storage, Text,
    schema::{meta::Counters, rooms as schema},
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use users::Users;

use crate::{
    activity::RoomActivity,
    context::{Context, Options},
    event_key::find_room,
    find::Descriptions,
    memory::RoomInfo,
    read::Reads,
    remote::{Remote, Resyncs, Turns, UnderWay},
    room::Room,
    signals::Signals,
    tree::NodeCache,
    worker::{INBOX, Request, Worker},
};

/// Room numbers that are taken from the store at once.
const NUMBERS_AT_ONCE: u32 = 32;
/// Attempts at taking room numbers that others took first.
const ATTEMPTS: usize = 8;

/// The room is not known here, or is being purged.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// There is no such room here.
    #[error("the room is not known here")]
    Unknown,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

/// The rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    reads: Reads,
    workers: Arc<Workers>,
    under_way: UnderWay,
    resyncs: Arc<Resyncs>,
    known: Cache<OwnedRoomId, Arc<RoomInfo>>,
    numbers: tokio::sync::Mutex<Range<u32>>,
}

impl std::fmt::Debug for Rooms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rooms")
    }
}

impl Rooms {
    /// The rooms in a store, and the way to other servers, if there is one. Reads nothing: rooms are loaded when they are first asked for.
    pub fn open(
        storage: Storage,
        users: Users,
        clock: SharedClock,
        random: Random,
        key: Arc<ServerKey>,
        remote: Option<Remote>,
        options: Options,
    ) -> Self {
        let nodes: NodeCache = Cache::new(options.cached_nodes.max(1));
        let known = Cache::new(options.cached_rooms.max(1));
        let activity = Arc::new(RoomActivity::default());
        let nodes = Arc::new(nodes);
        let reads =
            Reads::new(storage.clone(), users.clone(), clock.clone(), Arc::clone(&activity), Arc::clone(&nodes));
        let (caches, typing, signals) = (Arc::clone(reads.caches()), Arc::clone(reads.typing()), Arc::default());
        let turns = Turns::default();
        let context = Context {
            storage,
            users,
            clock,
            random,
            key,
            turns,
            remote,
            descriptions: Descriptions::default(),
            history_turns: Turns::default(),
            merge_turns: Turns::default(),
            options,
            activity,
            nodes,
            caches,
            signals,
            typing,
        };
        let context = Arc::new(context);
        let workers = Arc::new(Workers::default());
        let under_way = UnderWay::default();
        let (resyncs, numbers) = (Arc::default(), tokio::sync::Mutex::new(0..0));
        Self(Arc::new(Inner { context, reads, workers, under_way, resyncs, known, numbers }))
    }

    /// A room by its id.
    pub async fn room(&self, id: &RoomId) -> Result<Room, RoomError> {
        if let Some(info) = self.0.known.get(id) {
            return Ok(Room::new(self.clone(), info));
        }
        let (nid, version) = find_room(&self.0.context.storage.view(), id).await?.ok_or(RoomError::Unknown)?;
        Ok(self.handle(RoomInfo { nid, room_id: id.to_owned(), version }))
    }

    /// A room by its number on this server.
    pub async fn room_by_number(&self, nid: RoomNid) -> Result<Room, RoomError> {
        let row = self.0.context.storage.view().get::<schema::Rooms>(&(nid,)).await?.ok_or(RoomError::Unknown)?;
        self.room(row.room_id.as_str().try_into().map_err(|_| RoomError::Unknown)?).await
    }

    /// What followers of the rooms wait for.
    pub fn signals(&self) -> &Arc<Signals> {
        &self.0.context.signals
    }

    /// The reading half.
    pub fn reads(&self) -> &Reads {
        &self.0.reads
    }

    /// Which rooms changed since when.
    pub fn activity(&self) -> &Arc<RoomActivity> {
        &self.0.context.activity
    }

    /// The nodes of state trees that are in memory.
    pub fn nodes(&self) -> &Arc<NodeCache> {
        &self.0.context.nodes
    }

    /// The way to other servers; `None`: this server takes part in no federation.
    pub fn remote(&self) -> Option<&Remote> {
        self.0.context.remote.as_ref()
    }

    /// The options that the rooms were opened with.
    pub fn options(&self) -> &Options {
        &self.0.context.options
    }

    /// Lets every worker finish what it was asked, and ends them. Whatever is sent afterwards is refused as unavailable.
    pub async fn close(&self) {
        self.0.workers.cancel.cancel();
        self.0.workers.tracker.close();
        self.0.workers.tracker.wait().await;
    }

    /// Does something to its end, even if who waits for it goes away. `None` if it failed unexpectedly.
    pub(crate) async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.0.workers.tracker.spawn(work).await.ok()
    }

    /// Does something beside the requests that want it. The end of the server breaks it off.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.0.workers.cancel.clone();
        self.0.workers.tracker.spawn(async move {
            let _ = cancel.run_until_cancelled(work).await;
        });
    }

    /// How many workers are loaded.
    #[cfg(test)]
    pub(crate) fn loaded_workers(&self) -> usize {
        self.0.workers.inboxes.lock().len()
    }

    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.0.under_way
    }

    pub(crate) fn resyncs(&self) -> &Arc<Resyncs> {
        &self.0.resyncs
    }

    /// Runs something on a task of its own, which goes on though nobody waits for it any more, until the server ends; `None` then.
    pub(crate) async fn on_its_own<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let cancel = self.0.workers.cancel.clone();
        let task = self.0.workers.tracker.spawn(async move { cancel.run_until_cancelled(work).await });
        task.await.ok().flatten()
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.0.context
    }

    /// A handle for a room that exists.
    pub(crate) fn handle(&self, info: RoomInfo) -> Room {
        let info = Arc::new(info);
        self.0.known.insert(info.room_id.clone(), Arc::clone(&info));
        Room::new(self.clone(), info)
    }

    /// Hands a request to a room's worker. Gives it back if the server is ending.
    pub(crate) async fn ask(&self, info: &Arc<RoomInfo>, mut request: Request) -> Result<(), Request> {
        loop {
            let Some(inbox) = self.0.workers.inbox(&self.0.context, info) else { return Err(request) };
            match inbox.send(request).await {
                Ok(()) => return Ok(()),
                Err(refused) => request = refused.0,
            }
        }
    }

    /// A room number that no room has had.
    pub(crate) async fn new_number(&self) -> Result<RoomNid, CommitError> {
        let mut numbers = self.0.numbers.lock().await;
        if let Some(number) = numbers.next() {
            return Ok(RoomNid(number));
        }
        let storage = &self.0.context.storage;
        let key = (Text::new("room"),);
        for _ in 0..ATTEMPTS {
            let used = storage.view().get::<Counters>(&key).await;
            let used = used.map_err(|error| CommitError::Failed(error.to_string()))?;
            let first = used.unwrap_or(0);
            let mut batch = Batch::new();
            batch.assert_unchanged::<Counters>(&key, used.as_ref());
            batch.put::<Counters>(&key, &(first + NUMBERS_AT_ONCE));
            match storage.commit(batch).await {
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    // Numbers count from 1: the first of a block is one more than were used.
                    *numbers = first + 2..first + NUMBERS_AT_ONCE + 1;
                    return Ok(RoomNid(first + 1));
                }
            }
        }
        Err(CommitError::Failed("room numbers are taken by somebody else".to_owned()))
    }
}

/// The workers that are loaded.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    inboxes: Mutex<HashMap<RoomNid, mpsc::Sender<Request>>>,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Workers {
    /// The inbox of a room's worker, which is started if there is none; `None` when the server is ending.
    fn inbox(self: &Arc<Self>, context: &Arc<Context>, info: &Arc<RoomInfo>) -> Option<mpsc::Sender<Request>> {
        let mut inboxes = self.inboxes.lock();
        if self.cancel.is_cancelled() {
            return None;
        }
        // An inbox that is closed here is that of a worker that has died: it takes its place in the registry along when it ends in order.
        if let Some(inbox) = inboxes.get(&info.nid).filter(|inbox| !inbox.is_closed()) {
            return Some(inbox.clone());
        }
        let (sender, receiver) = mpsc::channel(INBOX);
        let cancel = self.cancel.clone();
        let worker = Worker::new(Arc::clone(context), Arc::clone(self), Arc::clone(info), receiver, cancel);
        self.tracker.spawn(worker.run());
        inboxes.insert(info.nid, sender.clone());
        Some(sender)
    }

    /// Takes an idle worker out of the registry. If somebody was about to write to it nevertheless, it gets a new inbox instead and goes
    /// on, after it has emptied the old one: at no time are there two workers of a room.
    pub(crate) fn retire(
        &self,
        room: RoomNid,
        inbox: &mut mpsc::Receiver<Request>,
        waiting: &mut VecDeque<Request>,
    ) -> Option<mpsc::Receiver<Request>> {
        let mut inboxes = self.inboxes.lock();
        inbox.close();
        match inbox.try_recv() {
            Err(mpsc::error::TryRecvError::Disconnected) => {
                inboxes.remove(&room);
                return None;
            }
            Ok(request) => waiting.push_back(request),
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        let (sender, receiver) = mpsc::channel(INBOX);
        inboxes.insert(room, sender);
        Some(receiver)
    }
}
