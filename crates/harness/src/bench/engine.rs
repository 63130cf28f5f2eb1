//! Delayed events at the engine's own API, on RocksDB with every commit synced: rates, start-up with many pending, memory, lists.

use std::{path::Path, sync::Arc, time::Duration};

use delayed_events::{DelayId, DelayedEvents, Event, Group, ListQuery, NewDelayed, Options, Schedule, TimerAction};
use primitives::{Random, SharedClock, StreamPosition, SystemClock, UnixMillis, UserNid};
use rooms::{CreateRoom, Rooms};
use ruma::{CanonicalJsonValue, OwnedRoomId, OwnedUserId};
use storage::{
    Batch, Positioned, Storage,
    schema::delayed::{Delayed, DelayedRow, DelayedTimers, Due, NewerState, TimerRow},
};
use tokio_util::task::TaskTracker;
use users::Users;

use super::{
    site::{Site, cpu},
    table::{Figure, Goal, mib},
};

/// Unoptimised, a twentieth of the work shows that all is in order.
pub(super) const SCALE: u32 = if cfg!(debug_assertions) { 20 } else { 1 };
const WRITERS: u32 = 64;
const SCHEDULES: u32 = 64_000 / SCALE;
const RESTARTED: u32 = 1_024;
const RESTARTS: u32 = 256_000 / SCALE;
const PENDING: u32 = 1_000_000 / SCALE;
const OF_ONE_USER: u32 = 100_000 / SCALE;
const LISTS: u32 = 50;
/// What heartbeats leave on disk is measured with so many of them,
const HEARTBEATS: u32 = 10_000_000 / (SCALE * if cfg!(debug_assertions) { 10 } else { 1 });
/// for so many events.
const BEATING: u32 = 1_000;
const DAY: Duration = Duration::from_hours(24);

/// A server with one room.
struct Ground {
    clock: SharedClock,
    storage: Storage,
    users: Users,
    rooms: Rooms,
    alice: OwnedUserId,
    nid: UserNid,
    room: OwnedRoomId,
}

impl Ground {
    async fn new(folder: &Path) -> anyhow::Result<Self> {
        let ground = Self::again(folder).await?;
        let room = ground.rooms.create(CreateRoom::new(ground.alice.clone())).await?;
        Ok(Self { room, ..ground })
    }

    /// The same after a restart of the server, with nothing said of the room.
    async fn again(folder: &Path) -> anyhow::Result<Self> {
        let Site { clock, storage, users, rooms, alice } = Site::open(folder).await?;
        let nid = users.nid(&alice).await?.ok_or_else(|| anyhow::anyhow!("the user has no number"))?;
        Ok(Self { clock, storage, users, rooms, alice, nid, room: ruma::room_id!("!none:hs.test").to_owned() })
    }

    async fn engine(&self) -> anyhow::Result<DelayedEvents> {
        let options = Options { enforce: false, ..Options::default() };
        let (storage, users, rooms) = (self.storage.clone(), self.users.clone(), self.rooms.clone());
        Ok(DelayedEvents::open(storage, users, rooms, self.clock.clone(), Random::os(), options).await?)
    }

    fn request(&self, number: u32) -> Schedule {
        let body = CanonicalJsonValue::String(format!(
            "message {number} of a hundred bytes or so, which is what people write on average"
        ));
        let content = [("body".to_owned(), body)].into_iter().collect();
        let event = Event { event_type: "m.room.message".to_owned(), content, ..Event::default() };
        Schedule {
            user_id: self.alice.clone(),
            device_id: None,
            room_id: self.room.clone(),
            events: vec![NewDelayed { event, delay: Some(DAY), name: None, tokens: false }],
            group: Group::None,
            now: None,
            txn: None,
        }
    }
}

/// Writes rows as scheduling would, but many in a batch: `count` events due in a day.
async fn fill_store(
    storage: &Storage,
    now: UnixMillis,
    room_id: &str,
    count: u32,
    user: impl Fn(u32) -> UserNid,
) -> anyhow::Result<()> {
    let random = Random::os();
    for chunk in 0..count.div_ceil(500) {
        let mut batch = Batch::new();
        for number in chunk * 500..count.min(chunk * 500 + 500) {
            let (key, user) = ((random.bytes::<16>(),), user(number));
            let row = DelayedRow {
                delay_id: random.token::<24>(),
                user,
                device_id: None,
                room_id: room_id.to_owned(),
                event_type: "m.room.message".to_owned(),
                state_key: None,
                content: b"{\"body\":\"a message of a few words\"}".to_vec(),
                delay_ms: Some(86_400_000),
                scheduled_at: now,
                place: 0,
                transaction_id: None,
                sticky_duration_ms: None,
                origin_server_ts: None,
                newer_state: NewerState::Ignored,
                group_id: None,
                name: None,
                tokens: Vec::new(),
            };
            let due = Due { at: UnixMillis(now.0 + 80_000_000 + u64::from(number)), delay_ms: 86_400_000 };
            let timer = TimerRow { user, room: number, place: 0, generation: 0, due: Some(due), group: None };
            batch.put::<Delayed>(&key, &Positioned { position: StreamPosition(1), value: row });
            // Every event has an order of its own, as positions give it.
            let position = StreamPosition(storage.position().0 - u64::from(count) + u64::from(number));
            batch.put::<DelayedTimers>(&key, &Positioned { position, value: timer });
        }
        storage.commit(batch).await?;
    }
    Ok(())
}

/// Fills the store of a server that does not run with events of users that it does not have.
pub(super) async fn fill(store: &Path, server_name: &str, count: u32) -> anyhow::Result<()> {
    let clock: SharedClock = Arc::new(SystemClock::new());
    let storage = Storage::open(storage::Options::directory(store.to_owned(), server_name), &clock, &Random::os())?;
    fill_store(&storage, clock.now(), "!none:harness.test", count, |number| UserNid(1_000_000 + number / 100)).await?;
    storage.close().await?;
    Ok(())
}

/// Wall and processor time of a piece of work.
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Lets the writers work at once, each on its share of the numbers.
async fn parallel<F, W>(clock: &SharedClock, count: u32, work: F) -> anyhow::Result<Cost>
where
    F: Fn(u32) -> W + Clone + Send + Sync + 'static,
    W: Future<Output = anyhow::Result<()>> + Send,
{
    let tasks = TaskTracker::new();
    let (start, used) = (clock.monotonic(), cpu());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let work = work.clone();
            tasks.spawn(async move {
                for number in (writer..count).step_by(WRITERS as usize) {
                    work(number).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for writer in writers {
        writer.await??;
    }
    Ok(Cost { wall: clock.monotonic().saturating_sub(start), cpu: cpu().saturating_sub(used) })
}

fn rates(name: &str, count: u32, cost: &Cost, goal: f64) -> [Figure; 2] {
    let per = |span: Duration| f64::from(count) / span.as_secs_f64().max(0.001);
    [
        Figure::new(format!("delayed: {name}, per second of one core"), per(cost.cpu), "/s", Goal::AtLeast(goal)),
        Figure::new(format!("delayed: {name}, in all"), per(cost.wall), "/s", Goal::None),
    ]
}

/// How many events are scheduled and restarted in a second.
pub(super) async fn throughput(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = Arc::new(Ground::new(folder).await?);
    let engine = site.engine().await?;
    let (at, on) = (site.clone(), engine.clone());
    let schedule = parallel(&site.clock, SCHEDULES, move |number| {
        let (at, on) = (at.clone(), on.clone());
        async move {
            on.schedule(at.request(number)).await?;
            Ok(())
        }
    });
    let schedule = schedule.await?;
    let list = ListQuery { limit: Some(RESTARTED as usize), ..ListQuery::default() };
    let ids: Arc<Vec<DelayId>> =
        Arc::new(engine.list(&site.alice, &list).await?.events.into_iter().map(|event| event.delay_id).collect());
    let restart = parallel(&site.clock, RESTARTS, move |number| {
        let (ids, on) = (ids.clone(), engine.clone());
        async move { Ok(on.act(None, &ids[number as usize % ids.len()], TimerAction::Restart).await?) }
    });
    let restart = restart.await?;
    let mut figures = rates("schedules", SCHEDULES, &schedule, 10_000.0).to_vec();
    figures.extend(rates("restarts", RESTARTS, &restart, 30_000.0));
    Ok(figures)
}

/// Start-up with a million pending, what they take in memory, and a list out of a hundred thousand of one user.
pub(super) async fn pending(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = Ground::new(folder).await?;
    let (storage, now, nid) = (&site.storage, site.clock.now(), site.nid);
    let room = site.room.as_str();
    fill_store(storage, now, room, PENDING - OF_ONE_USER, |number| UserNid(1_000 + number / 100)).await?;
    fill_store(storage, now, room, OF_ONE_USER, |_| nid).await?;
    site.storage.close().await?;
    drop(site);
    let site = Ground::again(folder).await?;
    let before = resident_kib()?;
    let start = site.clock.monotonic();
    let engine = site.engine().await?;
    let loaded = site.clock.monotonic().saturating_sub(start);
    anyhow::ensure!(engine.pending() == PENDING as usize, "{} pending", engine.pending());
    let after = resident_kib()?;
    let list = ListQuery::default();
    let start = site.clock.monotonic();
    for _ in 0..LISTS {
        let page = engine.list(&site.alice, &list).await?;
        anyhow::ensure!(page.events.len() == ListQuery::DEFAULT_LIMIT, "{} listed", page.events.len());
    }
    let listed = site.clock.monotonic().saturating_sub(start) / LISTS;
    let what = format!("delayed: {PENDING} pending");
    Ok(vec![
        Figure::new(format!("{what}, loaded"), loaded.as_secs_f64(), "s", Goal::AtMost(3.0)),
        Figure::new(format!("{what}, memory"), mib(after.saturating_sub(before)), "MiB", Goal::AtMost(150.0)),
        Figure::new(
            format!("delayed: list 100 of {OF_ONE_USER}"),
            listed.as_secs_f64() * 1_000.0,
            "ms",
            Goal::AtMost(2.0),
        ),
    ])
}

/// What heartbeats leave behind: restarts of a thousand events, then a clean stop, then the size of all files.
pub(super) async fn heartbeats(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = Arc::new(Ground::new(folder).await?);
    let engine = site.engine().await?;
    let mut ids = Vec::new();
    for number in 0..BEATING {
        ids.extend(engine.schedule(site.request(number)).await?.events.into_iter().map(|event| event.delay_id));
    }
    let ids = Arc::new(ids);
    let on = engine.clone();
    let cost = parallel(&site.clock, HEARTBEATS, move |number| {
        let (ids, on) = (ids.clone(), on.clone());
        async move { Ok(on.act(None, &ids[number as usize % ids.len()], TimerAction::Restart).await?) }
    });
    let cost = cost.await?;
    let peak = size_of(folder)?;
    site.storage.close().await?;
    let what = format!("delayed: {HEARTBEATS} restarts of {BEATING} events");
    Ok(vec![
        Figure::new(what.clone(), cost.wall.as_secs_f64(), "s", Goal::None),
        Figure::new(format!("{what}, data directory before the stop"), mib(peak / 1_024), "MiB", Goal::None),
        // The goal is 100 MB.
        Figure::new(
            format!("{what}, data directory after a clean stop"),
            mib(size_of(folder)? / 1_024),
            "MiB",
            Goal::AtMost(95.0),
        ),
    ])
}

/// The bytes of all files below a folder.
fn size_of(folder: &Path) -> anyhow::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        size += if about.is_dir() { size_of(&entry.path())? } else { about.len() };
    }
    Ok(size)
}
