//! Rooms that do as tests tell them, on a real store, and an engine to go with them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use primitives::{ManualClock, NodeId, Random, Rank, Rix, RoomNid, SharedClock, StreamPosition, UnixMillis, UserNid};
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId, canonical_json::CanonicalJsonObject};
use storage::{
    Batch, CommitError, Positioned, Storage, Text,
    schema::{
        delayed::{Failure, FailureKind, NewerState, TimerAction},
        rooms::{
            AliasRow, Aliases, EventHeader, EventHeaders, EventIds, EventKind, EventLocal, EventLocals, EventPlace,
            RoomIds, Verdict,
        },
    },
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ActError, DelayId, DelayedEvent, DelayedEvents, Event, Group, ListQuery, NewDelayed, Options, Refusal, Schedule,
    ScheduleError, Status, StoreError, TxnKey,
    outside::{Accepted, NotSent, Outside, Sending, SlotOf},
};

/// The time at which every test begins.
pub(crate) const START: u64 = 1_700_000_000_000;

/// An event that a room took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) event_id: OwnedEventId,
    pub(crate) sender: OwnedUserId,
    pub(crate) room_id: OwnedRoomId,
    pub(crate) state_key: Option<String>,
    pub(crate) content: CanonicalJsonObject,
    pub(crate) sticky_duration: Option<Duration>,
    pub(crate) origin_server_ts: Option<UnixMillis>,
    pub(crate) local: EventLocal,
    pub(crate) at: UnixMillis,
    position: StreamPosition,
    event_type: String,
}

#[derive(Default)]
struct Told {
    users: HashMap<OwnedUserId, (UserNid, bool)>,
    rooms: HashSet<OwnedRoomId>,
    taken: Vec<Taken>,
    refused: HashMap<OwnedUserId, Refusal>,
    faults: u32,
    attempts: u32,
}

/// Rooms and users as a test wants them. They outlive the engine, as what is on disk does.
pub(crate) struct World {
    storage: Storage,
    clock: SharedClock,
    told: Mutex<Told>,
    /// Sends wait while this is false.
    open: watch::Sender<bool>,
}

impl World {
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.told.lock().taken.clone()
    }

    /// The numbers that [`Lab::event`] put into what was taken, in order.
    pub(crate) fn numbers(&self) -> Vec<i64> {
        self.told.lock().taken.iter().filter_map(|taken| taken.content.get("n")?.as_integer()).map(i64::from).collect()
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.told.lock().attempts
    }

    /// Refuses what a user sends, or takes it again.
    pub(crate) fn refuse(&self, user: &UserId, kind: Option<FailureKind>) {
        let told = &mut *self.told.lock();
        match kind {
            Some(kind) => {
                let failure = Failure { kind, message: "no".to_owned() };
                told.refused.insert(user.to_owned(), Refusal { failure, retry_after: None });
            }
            None => drop(told.refused.remove(user)),
        }
    }

    /// Holds what a user sends to a rate, until [`Self::refuse`] says otherwise.
    pub(crate) fn hold(&self, user: &UserId, retry_after: Duration) {
        let failure = Failure { kind: FailureKind::LimitExceeded, message: "slowly".to_owned() };
        let refusal = Refusal { failure, retry_after: Some(retry_after) };
        self.told.lock().refused.insert(user.to_owned(), refusal);
    }

    /// The next sends fail.
    pub(crate) fn fail(&self, times: u32) {
        self.told.lock().faults = times;
    }

    pub(crate) fn close_gate(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open_gate(&self) {
        self.open.send_replace(true);
    }

    pub(crate) fn forget_room(&self, room: &RoomId) {
        self.told.lock().rooms.remove(room);
    }

    pub(crate) fn deactivate(&self, user: &UserId) {
        self.told.lock().users.get_mut(user).expect("a user of the test").1 = false;
    }

    /// A state event that came the ordinary way.
    pub(crate) async fn set_state(&self, sender: &UserId, room: &RoomId, event_type: &str, state_key: &str) {
        let sending = Sending {
            sender: sender.to_owned(),
            room_id: room.to_owned(),
            event_type: event_type.to_owned(),
            state_key: Some(state_key.to_owned()),
            content: CanonicalJsonObject::new(),
            sticky_duration: None,
            origin_server_ts: None,
            local: EventLocal::default(),
            gives_way: None,
            rider: Box::new(|_| Batch::new()),
        };
        self.take(sending).await.expect("nothing is in its way");
    }

    async fn take(&self, event: Sending) -> Result<Accepted, NotSent> {
        self.told.lock().attempts += 1;
        let mut gate = self.open.subscribe();
        gate.wait_for(|open| *open).await.expect("the world lives");
        {
            let told = &mut *self.told.lock();
            if told.faults > 0 {
                told.faults -= 1;
                return Err(NotSent::Fault("told to fail".to_owned()));
            }
            if let Some(refusal) = told.refused.get(&event.sender) {
                return Err(NotSent::Refused(refusal.clone()));
            }
            if !told.rooms.contains(&event.room_id) {
                return Err(NotSent::NoRoom);
            }
        }
        if let (Some((since, by)), Some(state_key)) = (event.gives_way, &event.state_key) {
            let slot =
                SlotOf { room_id: &event.room_id, event_type: &event.event_type, state_key, owner: &event.sender };
            if self.taken_since(&slot, since, by) {
                return Err(NotSent::NewerState);
            }
        }
        let count = self.told.lock().taken.len();
        let event_id = EventId::parse(format!("$event{count}")).expect("an event id");
        // The batch that would hold the event as well: memory plays that part, and is told after the commit as views are.
        let mut batch = (event.rider)(&event_id);
        write_event(&mut batch, &event, &event_id, count);
        match self.storage.commit(batch).await {
            Ok(position) => {
                self.told.lock().taken.push(Taken {
                    event_id: event_id.clone(),
                    sender: event.sender,
                    room_id: event.room_id,
                    state_key: event.state_key,
                    content: event.content,
                    sticky_duration: event.sticky_duration,
                    origin_server_ts: event.origin_server_ts,
                    local: event.local,
                    at: self.clock.now(),
                    position,
                    event_type: event.event_type,
                });
                Ok(Accepted { event_id, position })
            }
            Err(CommitError::Conflict(_)) => Err(NotSent::Lost),
            Err(error) => Err(NotSent::Fault(error.to_string())),
        }
    }

    fn taken_since(&self, slot: &SlotOf<'_>, since: StreamPosition, by: NewerState) -> bool {
        self.told.lock().taken.iter().any(|taken| {
            let same = taken.room_id == slot.room_id && taken.event_type == slot.event_type;
            let counts = by == NewerState::Cancels || taken.sender != slot.owner;
            same && taken.state_key.as_deref() == Some(slot.state_key) && taken.position > since && counts
        })
    }
}

/// The rows that say of an event that it is there, and what it was made of.
fn write_event(batch: &mut Batch, event: &Sending, event_id: &EventId, count: usize) {
    let (room, rix) = (RoomNid(1), Rix(u32::try_from(count).expect("few events") + 1));
    let header = EventHeader {
        event_id: event_id.to_string(),
        origin_server_ts: 0,
        sender: event.sender.to_string(),
        event_type: event.event_type.clone(),
        state_key: event.state_key.clone(),
        membership: None,
        kind: EventKind::Timeline,
        verdict: Verdict::Accepted,
        rank: Rank::FIRST,
        depth: 0,
        root_before: NodeId(0),
        root_after: NodeId(0),
        auth: Vec::new(),
        prev: Vec::new(),
    };
    batch
        .put::<RoomIds>(&(Text::new(event.room_id.as_str()),), &room)
        .put::<EventIds>(&(rooms::event_key(event_id),), &EventPlace { room, rix })
        .put::<EventHeaders>(&(room, rix), &Positioned::pending(header))
        .put::<EventLocals>(&(room, rix), &event.local);
}

fn answer_key(txn: &TxnKey) -> (Text,) {
    (Text::new(format!("{txn:?}")),)
}

/// A handle to the world for the engine.
struct Door(Arc<World>);

impl Outside for Door {
    fn send(&self, event: Sending) -> BoxFuture<'_, Result<Accepted, NotSent>> {
        Box::pin(self.0.take(event))
    }

    fn knows_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.0.told.lock().rooms.contains(room)) })
    }

    fn slot_taken<'a>(
        &'a self,
        slot: SlotOf<'a>,
        since: StreamPosition,
        by: NewerState,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(self.0.taken_since(&slot, since, by)) })
    }

    fn nid<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserNid>, StoreError>> {
        Box::pin(async move { Ok(self.0.told.lock().users.get(user).map(|(nid, _)| *nid)) })
    }

    fn name(&self, user: UserNid) -> BoxFuture<'_, Result<Option<OwnedUserId>, StoreError>> {
        let named = self.0.told.lock().users.iter().find(|(_, (nid, _))| *nid == user).map(|(name, _)| name.clone());
        Box::pin(async move { Ok(named) })
    }

    fn active(&self, user: UserNid) -> BoxFuture<'_, Result<Option<OwnedUserId>, StoreError>> {
        let named = self
            .0
            .told
            .lock()
            .users
            .iter()
            .find(|(_, (nid, active))| *nid == user && *active)
            .map(|(name, _)| name.clone());
        Box::pin(async move { Ok(named) })
    }

    fn answered<'a>(&'a self, txn: &'a TxnKey) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(
            async move { Ok(self.0.storage.view().get::<Aliases>(&answer_key(txn)).await?.map(|row| row.room_id)) },
        )
    }

    fn answer(&self, txn: &TxnKey, result: &str) -> Batch {
        let (key, mut batch) = (answer_key(txn), Batch::new());
        let row = AliasRow { room_id: result.to_owned(), creator: String::new() };
        batch.assert_absent::<Aliases>(&key).put::<Aliases>(&key, &row);
        batch
    }
}

/// A store, a clock, a world and an engine.
pub(crate) struct Lab {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) storage: Storage,
    pub(crate) world: Arc<World>,
    pub(crate) engine: DelayedEvents,
    pub(crate) alice: OwnedUserId,
    pub(crate) bob: OwnedUserId,
    pub(crate) room: OwnedRoomId,
    pub(crate) options: Options,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Lab {
    /// With default options and no rates.
    pub(crate) async fn new() -> Self {
        let rate = crate::Rate { per_second: 1_000_000.0, burst: 1_000_000 };
        let paced = Options::default();
        Self::with(Options { schedules: rate, restarts_per_event: rate, restarts_per_user: rate, ..paced }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let clock = ManualClock::new(UnixMillis(START));
        let shared: SharedClock = clock.clone();
        let storage = Storage::memory(&shared, &Random::seeded(1));
        let world = Arc::new(World {
            storage: storage.clone(),
            clock: shared,
            told: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let user = |name: &str| UserId::parse(format!("@{name}:example.org")).expect("a user id");
        let (alice, bob, room) = (user("alice"), user("bob"), RoomId::parse("!room:example.org").expect("a room id"));
        {
            let told = &mut *world.told.lock();
            told.users = [(alice.clone(), (UserNid(1), true)), (bob.clone(), (UserNid(2), true))].into();
            told.rooms.insert(room.clone());
        }
        let engine = engine(&storage, &world, &clock, &options, 2).await;
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let lab = Self { clock, storage, world, engine, alice, bob, room, options, cancel, tasks };
        lab.run();
        lab
    }

    fn run(&self) {
        let (engine, cancel) = (self.engine.clone(), self.cancel.clone());
        self.tasks.spawn(async move { engine.run(cancel).await });
    }

    pub(crate) fn more_rooms(&self, count: u32) -> Vec<OwnedRoomId> {
        let rooms: Vec<_> =
            (0..count).map(|n| RoomId::parse(format!("!room{n}:example.org")).expect("a room id")).collect();
        self.world.told.lock().rooms.extend(rooms.iter().cloned());
        rooms
    }

    /// Ends the engine without ceremony and starts another on the same store.
    pub(crate) async fn restart(&mut self) {
        self.down().await;
        self.up().await;
    }

    pub(crate) async fn down(&self) {
        self.cancel.cancel();
        self.settle().await;
    }

    pub(crate) async fn up(&mut self) {
        self.engine = engine(&self.storage, &self.world, &self.clock, &self.options, 3).await;
        self.cancel = CancellationToken::new();
        self.run();
        self.settle().await;
    }

    /// Lets everything happen that can happen now.
    pub(crate) async fn settle(&self) {
        for _ in 0..400 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets time pass, and everything happen that then can.
    pub(crate) async fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
        self.settle().await;
    }

    /// A message of a number.
    pub(crate) fn event(n: i32) -> Event {
        let content = [("n".to_owned(), ruma::CanonicalJsonValue::Integer(n.into()))].into_iter().collect();
        Event { event_type: "m.room.message".to_owned(), content, ..Event::default() }
    }

    pub(crate) fn state(state_key: &str, n: i32) -> Event {
        Event { event_type: "org.example.call".to_owned(), state_key: Some(state_key.to_owned()), ..Self::event(n) }
    }

    pub(crate) fn request(&self, event: Event, delay: u64) -> Schedule {
        Schedule {
            user_id: self.alice.clone(),
            device_id: Some("DEVICE".into()),
            room_id: self.room.clone(),
            events: vec![NewDelayed { event, delay: Some(Duration::from_millis(delay)), name: None, tokens: false }],
            group: Group::None,
            now: None,
            txn: None,
        }
    }

    pub(crate) fn txn(id: &str) -> TxnKey {
        TxnKey {
            user_nid: UserNid(1),
            device_id: Some("DEVICE".into()),
            path: "send".to_owned(),
            txn_id: id.to_owned(),
        }
    }

    pub(crate) async fn try_schedule(&self, request: Schedule) -> Result<DelayId, ScheduleError> {
        self.engine.schedule(request).await.map(|mut receipt| receipt.events.remove(0).delay_id)
    }

    /// Alice schedules an event in the room.
    pub(crate) async fn schedule(&self, event: Event, delay: u64) -> DelayId {
        self.try_schedule(self.request(event, delay)).await.expect("nothing is wrong with it")
    }

    pub(crate) async fn act(&self, id: &DelayId, action: TimerAction) -> Result<(), ActError> {
        self.engine.act(Some(&self.alice), id, action).await
    }

    pub(crate) fn clock_now(&self) -> UnixMillis {
        primitives::Clock::now(&*self.clock)
    }

    pub(crate) async fn get(&self, id: &DelayId) -> DelayedEvent {
        self.engine.get(&self.alice, id).await.expect("the store works").expect("it is kept")
    }

    pub(crate) async fn list(&self, status: Status) -> Vec<DelayedEvent> {
        let query = ListQuery { status: vec![status], limit: Some(1_000), ..ListQuery::default() };
        self.engine.list(&self.alice, &query).await.expect("the store works").events
    }
}

async fn engine(
    storage: &Storage,
    world: &Arc<World>,
    clock: &Arc<ManualClock>,
    options: &Options,
    seed: u64,
) -> DelayedEvents {
    let door = Box::new(Door(world.clone()));
    DelayedEvents::with_outside(storage.clone(), door, clock.clone(), Random::seeded(seed), options.clone())
        .await
        .expect("the store works")
}
