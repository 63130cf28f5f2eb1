//! Lists of devices: asked for, and changed by somebody who is in many rooms.

use std::{path::Path, time::Duration};

use primitives::{Clock, SystemClock};
use serde_json::{Map, Value, json};

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

/// `/keys/query` for a thousand users of five devices each.
pub(in crate::bench) async fn queries(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    const PLAN: Plan = Plan { users: 1_000, devices: 5, one_time_keys: 0 };
    const TIMES: u32 = 100;
    let launch = Launch::new(folder);
    std::fs::create_dir_all(launch.data())?;
    let site = Site::of(&launch).await?;
    fill::fill(&site.users, PLAN).await?;
    site.close().await?;
    let server = launch.start().await?;
    let asker = Client::register(&server.base, "asker").await?;
    let mut wire = Wire::connect(&server.base, asker.token()).await?;
    let wanted: Map<String, Value> =
        (0..PLAN.users).map(|user| (format!("@{}:harness.test", fill::name(user)), json!([]))).collect();
    let body = json!({ "device_keys": wanted }).to_string();
    let clock = SystemClock::new();
    let (mut first, mut latencies) = (0.0, Latencies::default());
    for count in 0..=TIMES {
        let start = clock.monotonic();
        let bytes = wire.call("POST", "/_matrix/client/v3/keys/query", &body).await?;
        let took = clock.monotonic().saturating_sub(start);
        if count > 0 {
            latencies.add(took);
            continue;
        }
        first = took.as_secs_f64() * 1_000.0;
        let answer: Value = serde_json::from_slice(bytes)?;
        let devices = answer["device_keys"].as_object().into_iter().flat_map(Map::values);
        let devices: usize = devices.map(|of_user| of_user.as_object().map_or(0, Map::len)).sum();
        anyhow::ensure!(devices == PLAN.users * PLAN.devices, "{devices} devices in the answer");
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(vec![
        Figure::new("keys of 1,000 users with 5 devices, the first time", first, "ms", Goal::None).peak(peak),
        Figure::new("keys of 1,000 users with 5 devices, p50", latencies.ms(0.5), "ms", Goal::AtMost(30.0)).peak(peak),
    ])
}

/// A device changes of a user who shares many rooms: how long they wait, and until all rooms are told.
pub(in crate::bench) async fn change(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    const ROOMS: usize = 500;
    const TIMES: u32 = 50;
    let clock = SystemClock::new();
    let server = Launch::new(folder).start().await?;
    let (alice, bob) = (Client::register(&server.base, "alice").await?, Client::register(&server.base, "bob").await?);
    for _ in 0..ROOMS {
        let room = bob.create_room().await?;
        alice.join(&room).await?;
    }
    let who = alice.call(reqwest::Method::GET, "/_matrix/client/v3/account/whoami", None).await?;
    let device = text(&who["device_id"]).to_owned();
    let key = primitives::ServerKey::generate(&primitives::Random::os()).public_base64();
    let keys = json!({
        "user_id": alice.user_id, "device_id": device, "algorithms": ["m.olm.v1.curve25519-aes-sha2"], "signatures": {},
        "keys": { format!("ed25519:{device}"): key, format!("curve25519:{device}"): key },
    });
    alice.upload_keys(json!({ "device_keys": keys })).await?;
    let mut since = told(&bob, &alice, None).await?;
    let mut wire = Wire::connect(&server.base, alice.token()).await?;
    let path = format!("/_matrix/client/v3/devices/{}", encoded(&device));
    let (mut latencies, mut first_told) = (Latencies::default(), Latencies::default());
    for count in 0..TIMES {
        let start = clock.monotonic();
        wire.call("PUT", &path, &json!({ "display_name": format!("name {count}") }).to_string()).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
        since = told(&bob, &alice, Some(&since)).await?;
        first_told.add(clock.monotonic().saturating_sub(start));
        // The other rooms are told.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let answer = bob.sync(Some(&since), Duration::ZERO).await?;
        text(&answer["next_batch"]).clone_into(&mut since);
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let figure = |what: &str, ms: f64, goal| {
        Figure::new(format!("device of a user with 500 shared rooms changed: {what}"), ms, "ms", goal).peak(peak)
    };
    Ok(vec![
        figure("acknowledged, p50", latencies.ms(0.5), Goal::AtMost(5.0)),
        figure("acknowledged, p99", latencies.ms(0.99), Goal::None),
        figure("another is told, p50", first_told.ms(0.5), Goal::None),
    ])
}

/// Syncs until somebody is told that another's devices changed; where to go on.
async fn told(who: &Client, of: &Client, since: Option<&str>) -> anyhow::Result<String> {
    let mut since = since.map(ToOwned::to_owned);
    loop {
        let answer = who.sync(since.as_deref(), Duration::from_secs(10)).await?;
        let next = text(&answer["next_batch"]).to_owned();
        let is_told = list(&answer["device_lists"]["changed"]).iter().any(|user| *user == *of.user_id);
        if is_told || since.is_none() {
            return Ok(next);
        }
        since = Some(next);
    }
}
