//! B2 at the crate's API: `Room::send`, signing included, on a store of its own in this process.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ::rooms::{CreateRoom, Outgoing, Room};
use primitives::SharedClock;
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject};
use tokio_util::task::TaskTracker;

use super::{
    site::{Site, cpu},
    table::{Figure, Goal, Latencies},
};

const ROOMS: usize = 64;
const ALONE: u32 = 3_000;
const TOGETHER: u32 = 100_000;

/// The figures of sending without a server around it.
pub(super) async fn sends(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let Site { clock, rooms: handle, alice, .. } = Site::open(folder).await?;
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
