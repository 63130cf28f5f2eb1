//! B2 at the crate's API: `Room::send`, signing included, on a store of its own in this process.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ::rooms::{CreateRoom, Outgoing, Room, Rooms};
use primitives::{Random, ServerKey, SharedClock, SystemClock};
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject, server_name};
use storage::Storage;
use tokio_util::task::TaskTracker;
use users::{Authority, NewAccount, Users};

use super::table::{Figure, Goal, Latencies};

const ROOMS: usize = 64;
const ALONE: u32 = 3_000;
const TOGETHER: u32 = 100_000;

/// The figures of sending without a server around it.
pub(super) async fn sends(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock: SharedClock = SystemClock::shared();
    let (handle, alice) = open(folder, &clock).await?;
    let mut rooms = Vec::with_capacity(ROOMS);
    for _ in 0..ROOMS {
        let id = handle.create(CreateRoom::new(alice.clone())).await?;
        rooms.push(handle.room(&id).await?);
    }
    let mut figures = vec![alone(&rooms[0], &alice, &clock).await?];
    figures.extend(together(rooms, &alice, &clock).await);
    handle.close().await;
    Ok(figures)
}

async fn open(folder: &Path, clock: &SharedClock) -> anyhow::Result<(Rooms, OwnedUserId)> {
    let random = Random::os();
    let storage = Storage::open(storage::Options::directory(folder.join("store"), "x"), clock, &random)?;
    let mut options = users::Options::new(server_name!("x").to_owned());
    options.limits.enforce = false;
    let users = Users::open(storage.clone(), clock.clone(), random.clone(), options).await?;
    let account = NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some("alice".to_owned()),
        password: None,
        display_name: None,
        session: None,
    };
    let alice = users.register(account).await?.user_id;
    let key = Arc::new(ServerKey::generate(&random));
    let options = ::rooms::Options::new(server_name!("x").to_owned());
    Ok((Rooms::open(storage, users, clock.clone(), random, key, options), alice))
}

fn message(sender: &OwnedUserId) -> Outgoing {
    let content = CanonicalJsonObject::from([
        ("body".to_owned(), "a message of ordinary length, as people write them all day".into()),
        ("msgtype".to_owned(), "m.text".into()),
    ]);
    Outgoing { rate_limited: false, ..Outgoing::message(sender.clone(), "m.room.message", content) }
}

async fn alone(room: &Room, alice: &OwnedUserId, clock: &SharedClock) -> anyhow::Result<Figure> {
    let mut latencies = Latencies::default();
    for _ in 0..ALONE {
        let start = clock.monotonic();
        room.send(message(alice)).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
    }
    Ok(Figure::new("Room::send alone p50", latencies.ms(0.5), "ms", Goal::None))
}

async fn together(rooms: Vec<Room>, alice: &OwnedUserId, clock: &SharedClock) -> [Figure; 2] {
    let (tracker, left) = (TaskTracker::new(), Arc::new(AtomicU32::new(TOGETHER)));
    let (start, cpu_start) = (clock.monotonic(), cpu());
    for room in rooms {
        let (alice, left) = (alice.clone(), Arc::clone(&left));
        tracker.spawn(async move {
            let take = |left: u32| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                room.send(message(&alice)).await.expect("a room that was just made takes messages");
            }
        });
    }
    tracker.close();
    tracker.wait().await;
    let span = clock.monotonic().saturating_sub(start).as_secs_f64();
    let used = cpu().saturating_sub(cpu_start).as_secs_f64();
    let events = f64::from(TOGETHER);
    [
        Figure::new("B2 Room::send, 64 rooms", events / span, "1/s", Goal::None),
        Figure::new("B2 Room::send, 64 rooms, a core", events / used, "1/s", Goal::AtLeast(8_000.0)),
    ]
}

/// The processor time that this process has used so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    // utime and stime, in ticks of 10 ms.
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
