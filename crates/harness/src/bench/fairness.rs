//! What a user with 100,000 due events does to others: to a send, and to an event of theirs that is due meanwhile.

use std::{path::Path, sync::Arc, time::Duration};

use primitives::{SharedClock, SystemClock};
use tokio_util::task::TaskTracker;

use super::{
    delayed::{Due, follow, lateness, schedule_at},
    engine::SCALE,
    table::{Figure, Goal, Latencies},
    wire::Wire,
};
use crate::{
    client::{CallError, Client, encoded},
    process::Launch,
};

const FLOOD: u32 = 100_000 / SCALE;
const FLOODED_ROOMS: u32 = 100;
/// Connections that schedule the flood, and the time they have for it.
const CONNECTIONS: u32 = 32;
const SCHEDULING: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 60 });
/// For so long sends are measured before the flood is due,
const BEFORE: Duration = Duration::from_secs(3);
/// and for so long while it is being sent: shorter than it takes.
const DURING: Duration = Duration::from_secs(if cfg!(debug_assertions) { 2 } else { 5 });
const BETWEEN: Duration = Duration::from_millis(20);

struct Site {
    clock: SharedClock,
    flooder: Client,
    flooded: Vec<String>,
    sender: Client,
    sends: String,
    owner: Client,
    owned: String,
}

/// The figures of fairness.
pub(super) async fn figures(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let server = Launch::new(folder).start().await?;
    let site = Site::settle(&server.base).await?;
    let due = site.clock.monotonic() + SCHEDULING;
    site.flood(due).await?;
    anyhow::ensure!(site.clock.monotonic() + BEFORE < due, "scheduling the flood took longer than the delay");
    tokio::time::sleep(due.saturating_sub(site.clock.monotonic() + BEFORE)).await;
    // A connection that is silent from its beginning is closed.
    let mut wire = Wire::connect(&server.base, site.sender.token()).await?;
    let (sends, owned) = (BEFORE + DURING, Due::default());
    let (owner, room, clock) = (site.owner.clone(), site.owned.clone(), site.clock.clone());
    let marked = owned.clone();
    let schedule = async move {
        for count in 0..u32::try_from(DURING.as_millis() / BETWEEN.as_millis()).expect("a small number") {
            schedule_at(&owner, &room, &format!("own{count}"), due + BETWEEN * count, &clock, &marked).await?;
        }
        Ok::<_, CallError>(())
    };
    let reader = site.owner.apart()?;
    let seen = async {
        let count = usize::try_from(DURING.as_millis() / BETWEEN.as_millis()).expect("a small number");
        follow(&reader, &site.clock, count, due + DURING + Duration::from_secs(20)).await
    };
    let (measured, scheduled, seen) =
        tokio::join!(measure(&mut wire, &site.sends, &site.clock, due, sends), schedule, seen);
    scheduled?;
    let ([before, during], seen) = (measured?, seen?);
    // What a sync sees has the sync's own time in it, as the sends have theirs: what others add is what counts.
    let late = lateness(&*owned.lock().await, &seen);
    let left = site.flooder.scheduled().await?.len();
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let what = format!("fairness: {FLOOD} of one user due");
    Ok(vec![
        Figure::new("fairness: another's send before, p50", before.ms(0.5), "ms", Goal::None),
        Figure::new(format!("{what}, another's send, p50"), during.ms(0.5), "ms", Goal::None).peak(peak),
        Figure::new(
            format!("{what}, another's send, p99 above p50 before"),
            during.ms(0.99) - before.ms(0.5),
            "ms",
            Goal::AtMost(20.0),
        )
        .peak(peak),
        Figure::new(format!("{what}, another's due event, p50 lateness"), late.ms(0.5), "ms", Goal::None).peak(peak),
        Figure::new(format!("{what}, another's due event, p99 lateness"), late.ms(0.99), "ms", Goal::AtMost(50.0))
            .peak(peak),
        Figure::new(
            format!("{what}, of which left at the end of the measurement"),
            f64::from(u32::try_from(left).unwrap_or(u32::MAX)),
            "events",
            Goal::None,
        ),
    ])
}

impl Site {
    async fn settle(base: &str) -> anyhow::Result<Self> {
        let flooder = Client::register(base, "flooder").await?;
        let mut flooded = Vec::new();
        for _ in 0..FLOODED_ROOMS {
            flooded.push(flooder.create_room().await?);
        }
        let sender = Client::register(base, "sender").await?;
        let room = sender.create_room().await?;
        let sends = format!("/_matrix/client/v3/rooms/{}/send/m.room.message", encoded(&room));
        let owner = Client::register(base, "owner").await?;
        let owned = owner.create_room().await?;
        Ok(Self { clock: Arc::new(SystemClock::new()), flooder, flooded, sender, sends, owner, owned })
    }

    /// Schedules the flood, all of it due at one moment.
    async fn flood(&self, at: Duration) -> anyhow::Result<()> {
        let tracker = TaskTracker::new();
        let scheduling: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let (client, rooms, clock) = (self.flooder.clone(), self.flooded.clone(), self.clock.clone());
                tracker.spawn(async move {
                    let due = Due::default();
                    for count in (connection..FLOOD).step_by(CONNECTIONS as usize) {
                        let room = &rooms[(count % FLOODED_ROOMS) as usize];
                        schedule_at(&client, room, &format!("f{count}"), at, &clock, &due).await?;
                    }
                    Ok::<_, CallError>(())
                })
            })
            .collect();
        for scheduled in scheduling {
            scheduled.await??;
        }
        Ok(())
    }
}

/// Sends one message after the other, and says how long each took: before a moment, and after it.
async fn measure(
    wire: &mut Wire,
    path: &str,
    clock: &SharedClock,
    due: Duration,
    span: Duration,
) -> anyhow::Result<[Latencies; 2]> {
    let mut latencies = [Latencies::default(), Latencies::default()];
    let (end, mut count) = (clock.monotonic() + span, 0_u32);
    while clock.monotonic() < end {
        let start = clock.monotonic();
        wire.call("PUT", &format!("{path}/s{count}"), r#"{"msgtype":"m.text","body":"hello"}"#).await?;
        latencies[usize::from(start >= due)].add(clock.monotonic().saturating_sub(start));
        count += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(latencies)
}
