//! B5: incremental sync of a user in 1,000 rooms.

use std::{path::Path, time::Duration};

use primitives::{Clock, SystemClock};

use super::{
    table::{Figure, Goal, Latencies},
    wire::Wire,
};
use crate::{
    client::{Client, encoded, text},
    process::Launch,
};

const ROOMS: usize = 1_000;
const CHANGED: usize = 10;

/// B5: 1,000 joined rooms, of which 10 or none changed since the token.
pub(super) async fn incremental(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let server = Launch::new(folder).start().await?;
    let (alice, bob) = (Client::register(&server.base, "alice").await?, Client::register(&server.base, "bob").await?);
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = bob.create_room().await?;
        alice.join(&room).await?;
        rooms.push(room);
    }
    let first = alice.sync(None, Duration::ZERO).await?;
    let mut since = text(&first["next_batch"]).to_owned();
    let mut wire = Wire::connect(&server.base, alice.token()).await?;
    let (mut changed, mut unchanged) = (Latencies::default(), Latencies::default());
    for round in 0..200 {
        for (index, room) in rooms.iter().cycle().skip(round * CHANGED).take(CHANGED).enumerate() {
            bob.send(room, &format!("r{round}i{index}"), "news").await?;
        }
        let path = |since: &str| format!("/_matrix/client/v3/sync?timeout=0&since={}", encoded(since));
        let start = clock.monotonic();
        let bytes = wire.call("GET", &path(&since), "").await?;
        changed.add(clock.monotonic().saturating_sub(start));
        let answer: serde_json::Value = serde_json::from_slice(bytes)?;
        let rooms = answer["rooms"]["join"].as_object().map_or(0, serde_json::Map::len);
        anyhow::ensure!(rooms == CHANGED, "{rooms} rooms in the answer instead of {CHANGED}");
        text(&answer["next_batch"]).clone_into(&mut since);
        let start = clock.monotonic();
        wire.call("GET", &path(&since), "").await?;
        unchanged.add(clock.monotonic().saturating_sub(start));
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(vec![
        Figure::new("B5 sync, 10 of 1,000 rooms changed, p50", changed.ms(0.5), "ms", Goal::AtMost(0.3)).peak(peak),
        Figure::new("B5 sync, nothing changed, p50", unchanged.ms(0.5), "ms", Goal::AtMost(0.1)).peak(peak),
    ])
}
