//! Messages from device to device: to many at once, and the sync that brings one.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use primitives::{Clock, SystemClock};
use serde_json::{Map, Value, json};
use users::{TxnKey, to_device::Messages};

use super::{
    super::{
        site::Site,
        table::{Figure, Goal, Latencies},
        wire::Wire,
    },
    fill::{self, Plan},
};
use crate::{
    client::{Client, encoded, list, text},
    process::Launch,
};

const PLAN: Plan = Plan { users: 200, devices: 5, one_time_keys: 0 };
const TIMES: u32 = 50;
/// A message as it is when its content is encrypted for one device.
const CIPHERTEXT: usize = 500;

fn content() -> Value {
    json!({ "algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": "A".repeat(CIPHERTEXT) })
}

/// What is sent to every device of the plan.
fn messages(server: &str) -> Map<String, Value> {
    let of = |_: usize| -> Map<String, Value> {
        (0..PLAN.devices).map(|device| (fill::device(device), content())).collect()
    };
    (0..PLAN.users).map(|user| (format!("@{}:{server}", fill::name(user)), of(user).into())).collect()
}

/// One request to a thousand devices, as its client waits for it.
pub(in crate::bench) async fn to_many(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let launch = Launch::new(folder);
    std::fs::create_dir_all(launch.data())?;
    let site = Site::of(&launch).await?;
    fill::fill(&site.users, PLAN).await?;
    site.close().await?;
    let server = launch.start().await?;
    let sender = Client::register(&server.base, "sender").await?;
    let mut wire = Wire::connect(&server.base, sender.token()).await?;
    let body = json!({ "messages": messages("harness.test") }).to_string();
    let (clock, mut latencies) = (SystemClock::new(), Latencies::default());
    for count in 0..TIMES {
        let start = clock.monotonic();
        wire.call("PUT", &format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/t{count}"), &body).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(vec![
        Figure::new("message to 1,000 devices, p50", latencies.ms(0.5), "ms", Goal::AtMost(20.0)).peak(peak),
        Figure::new("message to 1,000 devices, p99", latencies.ms(0.99), "ms", Goal::None).peak(peak),
    ])
}

/// The batches that such a request writes: positions have no gaps.
pub(in crate::bench) async fn batches(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = Site::open(folder).await?;
    fill::fill(&site.users, PLAN).await?;
    let who = fill::log_in(&site.users, &fill::name(0), &fill::device(0)).await?;
    let wanted: Messages = serde_json::from_value(messages(who.user_id.server_name().as_str()).into())?;
    let txn = TxnKey {
        user_nid: who.user_nid,
        device_id: who.device_id.clone(),
        path: "sendToDevice".to_owned(),
        txn_id: "t".to_owned(),
    };
    let before = site.storage.position();
    site.users.to_device().send(&who.user_id, &txn, "m.room.encrypted", &wanted).await?;
    let written = site.storage.position().0 - before.0;
    site.close().await?;
    let batches = f64::from(u32::try_from(written)?);
    Ok(vec![Figure::new("message to 1,000 devices, batches", batches, "batches", Goal::AtMost(4.0))])
}

/// A sync that brings a message to the device and nothing else.
pub(in crate::bench) async fn sync(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    const WARM: u32 = 100;
    const ROUNDS: u32 = 1_000;
    let clock = SystemClock::new();
    let server = Launch::new(folder).start().await?;
    let (alice, bob) = (Client::register(&server.base, "alice").await?, Client::register(&server.base, "bob").await?);
    let room = alice.create_room().await?;
    bob.join(&room).await?;
    let mut since = text(&alice.sync(None, Duration::ZERO).await?["next_batch"]).to_owned();
    let mut wire = Wire::connect(&server.base, alice.token()).await?;
    let mut sending = Wire::connect(&server.base, bob.token()).await?;
    let body = json!({ "messages": { alice.user_id: { "*": content() } } }).to_string();
    let mut latencies = Latencies::default();
    for round in 0..WARM + ROUNDS {
        sending.call("PUT", &format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/t{round}"), &body).await?;
        let path = format!("/_matrix/client/v3/sync?timeout=0&since={}", encoded(&since));
        let start = clock.monotonic();
        let bytes = wire.call("GET", &path, "").await?;
        let took = clock.monotonic().saturating_sub(start);
        let answer: Value = serde_json::from_slice(bytes)?;
        let brought = list(&answer["to_device"]["events"]).len();
        anyhow::ensure!(brought == 1 || round == 0, "{brought} messages in the answer");
        answer["next_batch"].as_str().context("a token")?.clone_into(&mut since);
        if round >= WARM {
            latencies.add(took);
        }
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(vec![
        Figure::new("sync with a message to the device, p50", latencies.ms(0.5), "ms", Goal::AtMost(0.3)).peak(peak),
        Figure::new("sync with a message to the device, p99", latencies.ms(0.99), "ms", Goal::None).peak(peak),
    ])
}
