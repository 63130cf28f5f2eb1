//! Lateness of delayed events, as a syncing client sees it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use primitives::{SharedClock, SystemClock};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::{
    engine::{SCALE, fill},
    table::{Figure, Goal, Latencies},
};
use crate::{
    client::{CallError, Client, list, text},
    process::Launch,
};

const WRITERS: usize = 50;
/// A million, optimised.
const PENDING: u32 = 1_000_000 / SCALE;
/// Events that are due one at a time while a million wait.
const ALONE: u32 = 200 / SCALE;

/// Many events that fall due at much the same time.
struct Fall {
    what: &'static str,
    events: usize,
    rooms: usize,
    /// From the first that is due to the last.
    over: Duration,
    /// p50 and p99, in milliseconds.
    goals: [Goal; 2],
}

/// 10,000 events, due evenly over one second in 50 rooms.
pub(super) async fn over_a_second(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let goals = [Goal::None, Goal::AtMost(100.0)];
    let over = Duration::from_secs(1);
    Fall { what: "over one second in 50 rooms", events: ten_thousand(), rooms: 50, over, goals }.measure(folder).await
}

/// 10,000 events, due at one instant in 1,000 rooms.
pub(super) async fn at_once_in_many_rooms(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let goals = [Goal::AtMost(400.0), Goal::AtMost(1_000.0)];
    let rooms = 1_000 / SCALE as usize;
    Fall { what: "at one instant in 1,000 rooms", events: ten_thousand(), rooms, over: Duration::ZERO, goals }
        .measure(folder)
        .await
}

/// 10,000 events, due at one instant in one room.
pub(super) async fn at_once_in_one_room(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let goals = [Goal::None, Goal::AtMost(1_000.0)];
    Fall { what: "at one instant in one room", events: ten_thousand(), rooms: 1, over: Duration::ZERO, goals }
        .measure(folder)
        .await
}

fn ten_thousand() -> usize {
    10_000 / SCALE as usize
}

/// Number of things as a figure.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// When each event is due, by its marker.
pub(super) type Due = Arc<Mutex<HashMap<String, Duration>>>;

impl Fall {
    async fn measure(&self, folder: &Path) -> anyhow::Result<Vec<Figure>> {
        let clock: SharedClock = Arc::new(SystemClock::new());
        let server = Launch::new(folder).start().await?;
        let reader = Client::register(&server.base, "reader").await?;
        let (writers, rooms) = self.settle(&server.base, &reader).await?;
        // Scheduling takes a while; everything falls due this long after the start of it.
        let first_due = clock.monotonic() + Duration::from_secs(25);
        let due = Due::default();
        let tracker = TaskTracker::new();
        let writing: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (client, rooms, clock, due) =
                    (writers[writer].clone(), rooms.clone(), clock.clone(), Arc::clone(&due));
                let (events, over) = (self.events, self.over);
                tracker.spawn(async move {
                    for index in (writer..events).step_by(WRITERS) {
                        let share = u32::try_from(index).expect("a small number");
                        let at = first_due + over * share / u32::try_from(events).expect("a small number");
                        let marker = format!("e{index}");
                        schedule_at(&client, &rooms[index % rooms.len()], &marker, at, &clock, &due).await?;
                    }
                    Ok::<_, CallError>(())
                })
            })
            .collect();
        for written in writing {
            written.await??;
        }
        let spare = first_due.saturating_sub(clock.monotonic());
        anyhow::ensure!(!spare.is_zero(), "scheduling took longer than the delay");
        let seen = follow(&reader, &clock, self.events, first_due + Duration::from_secs(20)).await?;
        let peak = server.memory_kib("VmHWM")?;
        server.stop().await?;
        Ok(self.figures(&*due.lock().await, &seen, peak))
    }

    /// The writers, and the rooms that all of them are in with the reader.
    async fn settle(&self, base: &str, reader: &Client) -> anyhow::Result<(Vec<Client>, Arc<Vec<String>>)> {
        let mut writers = Vec::new();
        for index in 0..WRITERS {
            writers.push(Client::register(base, &format!("writer{index}")).await?);
        }
        let mut rooms = Vec::new();
        for index in 0..self.rooms {
            let room = writers[index % WRITERS].create_room().await?;
            reader.join(&room).await?;
            rooms.push(room);
        }
        // Event n is writer n's in room n: each writer joins the rooms that its events go to.
        let mut in_room: HashSet<(usize, usize)> = (0..self.rooms).map(|index| (index % WRITERS, index)).collect();
        for index in 0..self.events {
            let (writer, room) = (index % WRITERS, index % self.rooms);
            if in_room.insert((writer, room)) {
                writers[writer].join(&rooms[room]).await?;
            }
        }
        Ok((writers, Arc::new(rooms)))
    }

    fn figures(
        &self,
        due: &HashMap<String, Duration>,
        seen: &HashMap<String, Vec<Duration>>,
        peak: u64,
    ) -> Vec<Figure> {
        let latencies = lateness(due, seen);
        let lost = due.keys().filter(|marker| !seen.contains_key(*marker)).count();
        let twice = seen.values().filter(|times| times.len() > 1).count();
        let what = format!("delayed: {} due {}", self.events, self.what);
        let [p50, p99] = self.goals;
        vec![
            Figure::new(format!("{what}, p50 lateness"), latencies.ms(0.5), "ms", p50).peak(peak),
            Figure::new(format!("{what}, p99 lateness"), latencies.ms(0.99), "ms", p99).peak(peak),
            Figure::new(format!("{what}, lost"), number(lost), "events", Goal::AtMost(0.0)),
            Figure::new(format!("{what}, twice"), number(twice), "events", Goal::AtMost(0.0)),
        ]
    }
}

/// How late each event was that has been seen.
pub(super) fn lateness(due: &HashMap<String, Duration>, seen: &HashMap<String, Vec<Duration>>) -> Latencies {
    let mut latencies = Latencies::default();
    for (marker, at) in due {
        if let Some(times) = seen.get(marker) {
            latencies.add(times[0].saturating_sub(*at));
        }
    }
    latencies
}

/// Schedules a message that is due at a moment of the monotonic clock, and notes when it really is.
pub(super) async fn schedule_at(
    client: &Client,
    room: &str,
    marker: &str,
    at: Duration,
    clock: &SharedClock,
    due: &Due,
) -> Result<(), CallError> {
    let asked = clock.monotonic();
    let delay = at.saturating_sub(asked).max(Duration::from_millis(1));
    let delay = Duration::from_millis(u64::try_from(delay.as_millis()).expect("a small number"));
    client.schedule(room, marker, marker, delay).await?;
    // The server counts from some moment between the question and the answer: the earlier is the stricter.
    due.lock().await.insert(marker.to_owned(), asked + delay);
    Ok(())
}

/// Syncs until this many messages were seen or the time is over: marker → when it was seen.
pub(super) async fn follow(
    reader: &Client,
    clock: &SharedClock,
    count: usize,
    until: Duration,
) -> anyhow::Result<HashMap<String, Vec<Duration>>> {
    let mut seen: HashMap<String, Vec<Duration>> = HashMap::new();
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";
    let mut since = text(&reader.sync(None, Duration::ZERO).await?["next_batch"]).to_owned();
    while seen.len() < count && clock.monotonic() < until {
        let path = format!("/_matrix/client/v3/sync?timeout=1000&filter={filter}&since={since}");
        let answer = reader.call(reqwest::Method::GET, &path, None).await?;
        let now = clock.monotonic();
        for (room_id, room) in answer["rooms"]["join"].as_object().into_iter().flatten() {
            let timeline = &room["timeline"];
            let mut events = list(&timeline["events"]).to_vec();
            if timeline["limited"].as_bool() == Some(true) {
                // More than a sync gives: the rest is as late as this.
                events.extend(reader.history_from(room_id, timeline["prev_batch"].as_str(), Some(&since)).await?);
            }
            for event in events.iter().filter(|event| event["type"] == "m.room.message") {
                seen.entry(text(&event["content"]["body"]).to_owned()).or_default().push(now);
            }
        }
        text(&answer["next_batch"]).clone_into(&mut since);
    }
    Ok(seen)
}

/// Events that are due alone, one after the other, while a million wait.
pub(super) async fn alone(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock: SharedClock = Arc::new(SystemClock::new());
    let launch = Launch::new(folder);
    // One start makes the data directory and its key.
    launch.start().await?.stop().await?;
    fill(&launch.data().join("store"), "harness.test", PENDING).await?;
    let server = launch.start().await?;
    let writer = Client::register(&server.base, "writer").await?;
    let reader = Client::register(&server.base, "reader").await?;
    let room = writer.create_room().await?;
    reader.join(&room).await?;
    let due = Due::default();
    let first = clock.monotonic() + Duration::from_secs(2);
    let step = Duration::from_millis(53);
    let write = async {
        for count in 0..ALONE {
            let at = first + step * count;
            schedule_at(&writer, &room, &format!("alone{count}"), at, &clock, &due).await?;
        }
        Ok::<_, CallError>(())
    };
    let until = first + step * ALONE + Duration::from_secs(10);
    let (written, seen) = tokio::join!(write, follow(&reader, &clock, ALONE as usize, until));
    written?;
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let (due, seen) = (due.lock().await, seen?);
    let latencies = lateness(&due, &seen);
    let what = format!("delayed: one due alone with {PENDING} pending");
    Ok(vec![
        Figure::new(format!("{what}, p50 lateness"), latencies.ms(0.5), "ms", Goal::None).peak(peak),
        Figure::new(format!("{what}, p99 lateness"), latencies.ms(0.99), "ms", Goal::AtMost(50.0)).peak(peak),
        Figure::new(format!("{what}, lost"), number(due.len() - seen.len()), "events", Goal::AtMost(0.0)),
    ])
}
