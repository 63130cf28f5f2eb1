//! B3: one send, and a thousand clients that wait for it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use primitives::{SharedClock, SystemClock};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    engine::SCALE,
    fill::{self, Person},
    site::Site,
    table::{Figure, Goal, Latencies},
    wire::Wire,
};
use crate::{
    client::{Client, encoded, text},
    process::Launch,
};

const CLIENTS: usize = 1_000 / SCALE as usize;
const ROUNDS: usize = 40;
/// The clients have this long to ask again before the next send,
const BETWEEN: Duration = Duration::from_millis(400);
/// once all were told: whoever is not by then never will be.
const LONGEST: Duration = Duration::from_secs(10);
/// As a client that only waits asks; it does not become present by that.
const QUERY: &str = "timeout=60000&set_presence=offline";

/// What sender and waiting clients share.
struct Round {
    clock: SharedClock,
    /// When the message was sent, in microseconds.
    sent: AtomicU64,
    told: AtomicUsize,
    latencies: Mutex<Latencies>,
}

impl Round {
    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_micros()).expect("the machine has not run for so long")
    }
}

/// B3: what a send costs until the last of all who wait has it.
pub(super) async fn many(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let launch = Launch::new(folder);
    let site = Site::of(&launch).await?;
    let people = fill::people(&site, CLIENTS + 1).await?;
    let room = fill::rooms(&site, 1, &people).await?[0].id().to_owned();
    site.close().await?;
    let server = launch.start().await?;
    let (sent, told) = (AtomicU64::new(0), AtomicUsize::new(0));
    let round = Arc::new(Round { clock: SystemClock::shared(), sent, told, latencies: Mutex::default() });
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let (sender, waiting) = people.split_last().context("somebody sends")?;
    for person in waiting {
        let wait = wait(server.base.clone(), person.clone(), Arc::clone(&round));
        tracker.spawn(stop.clone().run_until_cancelled_owned(wait));
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut wire = Wire::connect(&server.base, &sender.token).await?;
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message", encoded(room.as_str()));
    let cpu = server.cpu()?;
    for count in 1..=ROUNDS {
        round.sent.store(round.now(), Ordering::SeqCst);
        wire.call("PUT", &format!("{path}/t{count}"), r#"{"msgtype":"m.text","body":"wake up"}"#).await?;
        let all_told = async {
            while round.told.load(Ordering::SeqCst) < count * CLIENTS {
                tokio::time::sleep(BETWEEN / 20).await;
            }
        };
        let _ = tokio::time::timeout(LONGEST, all_told).await;
        tokio::time::sleep(BETWEEN).await;
        let told = round.told.load(Ordering::SeqCst);
        anyhow::ensure!(told == count * CLIENTS, "{told} were told in {count} rounds");
    }
    let cpu = server.cpu()?.saturating_sub(cpu).as_secs_f64();
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let woken = f64::from(u32::try_from(ROUNDS * CLIENTS)?);
    let latencies = round.latencies.lock().clone();
    let what = format!("B3 one send to {CLIENTS} waiting syncs");
    Ok(vec![
        Figure::new(format!("{what}, p50"), latencies.ms(0.5), "ms", Goal::None).peak(peak),
        Figure::new(format!("{what}, p99"), latencies.ms(0.99), "ms", Goal::AtMost(60.0)).peak(peak),
        Figure::new(format!("{what}, server CPU per client"), cpu * 1e6 / woken, "µs", Goal::AtMost(30.0)).peak(peak),
    ])
}

/// Waits for news for as long as the server has any, and notes when it came.
async fn wait(base: String, person: Person, round: Arc<Round>) -> anyhow::Result<()> {
    let client = Client::of_session(&base, person.user_id.as_str(), &person.token)?;
    let lazy = encoded(r#"{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}"#);
    let path = format!("/_matrix/client/v3/sync?filter={lazy}&{QUERY}");
    let first = client.call(http::Method::GET, &path, None).await?;
    let mut since = text(&first["next_batch"]).to_owned();
    let mut wire = Wire::connect(&base, &person.token).await?;
    loop {
        let path = format!("/_matrix/client/v3/sync?since={}&filter={lazy}&{QUERY}", encoded(&since));
        let bytes = wire.call("GET", &path, "").await?;
        let arrived = round.now();
        let answer: serde_json::Value = serde_json::from_slice(bytes)?;
        text(&answer["next_batch"]).clone_into(&mut since);
        if answer["rooms"]["join"].is_object() {
            let span = arrived.saturating_sub(round.sent.load(Ordering::SeqCst));
            round.latencies.lock().add(Duration::from_micros(span));
            round.told.fetch_add(1, Ordering::SeqCst);
        }
    }
}
