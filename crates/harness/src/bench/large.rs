//! Rooms with very many members of this server: listing them, and sending to them.

use std::path::Path;

use primitives::{Clock, SystemClock};
use serde::Deserialize;

use super::{
    engine::SCALE,
    fill::{self, Person},
    site::Site,
    table::{Figure, Goal, Latencies},
    wire::Wire,
};
use crate::{
    client::encoded,
    process::{Launch, Server},
};

const LISTED: usize = 50_000 / SCALE as usize;
const LISTS: usize = 10;
const TOLD: usize = 10_000 / SCALE as usize;
const SENDS: usize = 500;

#[derive(Deserialize)]
struct Members {
    chunk: Vec<serde::de::IgnoredAny>,
}

/// A fresh server with one room of that many members, one of them, and the room's id as a part of a path.
async fn with_members(folder: &Path, count: usize) -> anyhow::Result<(Server, Person, String)> {
    let launch = Launch::new(folder);
    let site = Site::of(&launch).await?;
    let people = fill::people(&site, count).await?;
    let room = encoded(fill::rooms(&site, 1, &people).await?[0].id().as_str());
    site.close().await?;
    Ok((launch.start().await?, people[0].clone(), room))
}

/// B9: `/members` of a room with 50,000.
pub(super) async fn members(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let (server, person, room) = with_members(folder, LISTED).await?;
    let mut wire = Wire::connect(&server.base, &person.token).await?;
    let (mut first, mut latencies) = (None, Latencies::default());
    for _ in 0..=LISTS {
        let start = clock.monotonic();
        let bytes = wire.call("GET", &format!("/_matrix/client/v3/rooms/{room}/members"), "").await?;
        let span = clock.monotonic().saturating_sub(start);
        let members: Members = serde_json::from_slice(bytes)?;
        // Who made the room is in it too.
        anyhow::ensure!(members.chunk.len() == LISTED + 1, "{} members", members.chunk.len());
        match first {
            None => first = Some(span.as_secs_f64() * 1_000.0),
            Some(_) => latencies.add(span),
        }
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let what = format!("B9 /members of {LISTED}");
    Ok(vec![
        Figure::new(format!("{what}, the first time"), first.unwrap_or_default(), "ms", Goal::None).peak(peak),
        Figure::new(format!("{what}, p50"), latencies.ms(0.5), "ms", Goal::AtMost(150.0)).peak(peak),
    ])
}

/// A send in a room with 10,000 local members, until it is acknowledged.
pub(super) async fn send(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let (server, person, room) = with_members(folder, TOLD).await?;
    let mut wire = Wire::connect(&server.base, &person.token).await?;
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message");
    let mut latencies = Latencies::default();
    for count in 0..SENDS {
        let start = clock.monotonic();
        wire.call("PUT", &format!("{path}/t{count}"), r#"{"msgtype":"m.text","body":"to all"}"#).await?;
        latencies.add(clock.monotonic().saturating_sub(start));
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let what = format!("send in a room with {TOLD} local members");
    Ok(vec![
        Figure::new(format!("{what}, p50"), latencies.ms(0.5), "ms", Goal::AtMost(2.0)).peak(peak),
        Figure::new(format!("{what}, p99"), latencies.ms(0.99), "ms", Goal::None).peak(peak),
    ])
}
