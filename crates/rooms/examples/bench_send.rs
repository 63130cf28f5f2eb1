//! Measures `Room::send`, signing included: one room alone, then 64 rooms at once. Usage: `bench_send [EVENTS] [DIRECTORY]`; without a
//! directory the store is in memory.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use primitives::{Random, ServerKey, SharedClock, SystemClock};
use rooms::{CreateRoom, Outgoing, Room, Rooms};
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject, server_name};
use storage::Storage;
use tokio_util::task::TaskTracker;
use users::{Authority, NewAccount, Users};

const ROOMS: usize = 64;

fn message(sender: &OwnedUserId) -> Outgoing {
    let content = CanonicalJsonObject::from([
        ("body".to_owned(), "a message of ordinary length, as people write them all day".into()),
        ("msgtype".to_owned(), "m.text".into()),
    ]);
    Outgoing { rate_limited: false, ..Outgoing::message(sender.clone(), "m.room.message", content) }
}

/// The processor time that this process has used so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        after.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

async fn open(directory: Option<String>, clock: &SharedClock) -> (Rooms, OwnedUserId) {
    let random = Random::os();
    let storage = match directory {
        Some(path) => Storage::open(storage::Options::directory(path, "x"), clock, &random).expect("opens"),
        None => Storage::memory(clock, &random),
    };
    let mut options = users::Options::new(server_name!("x").to_owned());
    options.limits.enforce = false;
    let users = Users::open(storage.clone(), clock.clone(), random.clone(), options).await.expect("opens");
    let account = NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some("alice".to_owned()),
        password: None,
        display_name: None,
        session: None,
    };
    let alice = users.register(account).await.expect("registers").user_id;
    let key = Arc::new(ServerKey::generate(&random));
    let options = rooms::Options::new(server_name!("x").to_owned());
    (Rooms::open(storage, users, clock.clone(), random, key, options), alice)
}

async fn alone(room: &Room, alice: &OwnedUserId, clock: &SharedClock, events: u32) -> String {
    let mut spans = Vec::with_capacity(events as usize);
    for _ in 0..events {
        let start = clock.monotonic();
        room.send(message(alice)).await.expect("sends");
        spans.push(clock.monotonic().saturating_sub(start));
    }
    spans.sort_unstable();
    format!("alone: p50 {:?}, p99 {:?}", spans[spans.len() / 2], spans[spans.len() * 99 / 100])
}

async fn together(rooms: Vec<Room>, alice: &OwnedUserId, clock: &SharedClock, events: u32) -> String {
    let (tracker, left) = (TaskTracker::new(), Arc::new(AtomicU32::new(events)));
    let (start, cpu_start) = (clock.monotonic(), cpu());
    for room in rooms {
        let (alice, left) = (alice.clone(), Arc::clone(&left));
        tracker.spawn(async move {
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                room.send(message(&alice)).await.expect("sends");
            }
        });
    }
    tracker.close();
    tracker.wait().await;
    let (span, used) = (clock.monotonic().saturating_sub(start), cpu().saturating_sub(cpu_start));
    let each = used / events;
    format!(
        "{ROOMS} rooms: {:.0} sends/s, {each:?} of processor each, {:.0} sends/s a core",
        f64::from(events) / span.as_secs_f64(),
        1.0 / each.as_secs_f64()
    )
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let events = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let clock: SharedClock = SystemClock::shared();
    let (handle, alice) = open(arguments.next(), &clock).await;
    let mut rooms = Vec::with_capacity(ROOMS);
    for _ in 0..ROOMS {
        let id = handle.create(CreateRoom::new(alice.clone())).await.expect("creates");
        rooms.push(handle.room(&id).await.expect("known"));
    }
    let lines = [alone(&rooms[0], &alice, &clock, 2_000).await, together(rooms, &alice, &clock, events).await];
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}").expect("standard output is open");
    }
}
