//! Lateness of 10,000 delayed events that are due within one second, as a syncing client sees it.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use primitives::{SharedClock, SystemClock};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::table::{Figure, Goal, Latencies};
use crate::{
    client::{Client, text},
    process::Launch,
};

const EVENTS: usize = 10_000;
const USERS: usize = 50;

/// 10,000 events of 50 users in 50 rooms, due evenly over one second.
pub(super) async fn lateness(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock: SharedClock = Arc::new(SystemClock::new());
    let server = Launch::new(folder).start().await?;
    let reader = Client::register(&server.base, "reader").await?;
    let mut writers = Vec::new();
    for index in 0..USERS {
        let client = Client::register(&server.base, &format!("writer{index}")).await?;
        let room = client.create_room().await?;
        reader.join(&room).await?;
        writers.push((client, room));
    }
    // Scheduling takes a while; everything falls due this long after the start of it.
    let first_due = clock.monotonic() + Duration::from_secs(25);
    let due: Arc<Mutex<HashMap<String, Duration>>> = Arc::default();
    let tracker = TaskTracker::new();
    for (index, (client, room)) in writers.iter().cloned().enumerate() {
        let (clock, due) = (Arc::clone(&clock), Arc::clone(&due));
        tracker.spawn(async move {
            for count in 0..EVENTS / USERS {
                let marker = format!("u{index}n{count}");
                let number = u32::try_from(count * USERS + index).expect("a small number");
                let at = first_due + Duration::from_micros(100) * number;
                let asked = clock.monotonic();
                let delay = Duration::from_millis(
                    u64::try_from((at.saturating_sub(asked)).as_millis()).expect("a small number"),
                );
                client.schedule(&room, &marker, &marker, delay).await?;
                // The server counts from some moment between the question and the answer: the earlier is the stricter.
                due.lock().await.insert(marker, asked + delay);
            }
            Ok::<_, crate::client::CallError>(())
        });
    }
    tracker.close();
    tracker.wait().await;
    let spare = first_due.saturating_sub(clock.monotonic());
    anyhow::ensure!(!spare.is_zero(), "scheduling took longer than the delay");
    let seen = follow(&reader, &clock, first_due + Duration::from_secs(20)).await?;
    let due = due.lock().await;
    let mut latencies = Latencies::default();
    for (marker, at) in due.iter() {
        if let Some(times) = seen.get(marker) {
            latencies.add(times[0].saturating_sub(*at));
        }
    }
    let lost = due.keys().filter(|marker| !seen.contains_key(*marker)).count();
    let twice = seen.values().filter(|times| times.len() > 1).count();
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let number = |count: usize| f64::from(u32::try_from(count).expect("a small number"));
    Ok(vec![
        Figure::new("delayed: 10,000 due in one second, p99 lateness", latencies.ms(0.99), "ms", Goal::AtMost(1_000.0))
            .peak(peak),
        Figure::new("delayed: 10,000 due in one second, p50 lateness", latencies.ms(0.5), "ms", Goal::None),
        Figure::new("delayed: lost", number(lost), "events", Goal::AtMost(0.0)),
        Figure::new("delayed: twice", number(twice), "events", Goal::AtMost(0.0)),
    ])
}

/// Syncs until every event was seen or the time is over: marker → when it was seen.
async fn follow(
    reader: &Client,
    clock: &SharedClock,
    until: Duration,
) -> anyhow::Result<HashMap<String, Vec<Duration>>> {
    let mut seen: HashMap<String, Vec<Duration>> = HashMap::new();
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";
    let mut since = text(&reader.sync(None, Duration::ZERO).await?["next_batch"]).to_owned();
    while seen.len() < EVENTS && clock.monotonic() < until {
        let path = format!("/_matrix/client/v3/sync?timeout=1000&filter={filter}&since={since}");
        let answer = reader.call(reqwest::Method::GET, &path, None).await?;
        let now = clock.monotonic();
        for room in answer["rooms"]["join"].as_object().into_iter().flat_map(|rooms| rooms.values()) {
            for event in crate::client::list(&room["timeline"]["events"]) {
                if event["type"] == "m.room.message" {
                    seen.entry(text(&event["content"]["body"]).to_owned()).or_default().push(now);
                }
            }
        }
        text(&answer["next_batch"]).clone_into(&mut since);
    }
    Ok(seen)
}
