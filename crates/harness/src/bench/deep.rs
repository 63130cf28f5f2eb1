//! B9: pages of `/messages` deep in a room's history.

use std::path::Path;

use anyhow::Context as _;
use primitives::{Clock, SystemClock};
use serde::Deserialize;

use super::{
    engine::SCALE,
    fill,
    site::Site,
    table::{Figure, Goal, Latencies},
    wire::Wire,
};
use crate::{client::encoded, process::Launch};

/// How deep the pages are,
const DEPTH: usize = 100_000 / SCALE as usize;
/// and how many of each size are measured.
const PAGES: usize = 200 / SCALE as usize;
const SIZES: [(usize, f64); 2] = [(20, 0.3), (100, 1.0)];
/// On the way down, and the most that a page has.
const STRIDE: usize = 1_000;

#[derive(Deserialize)]
struct Page {
    chunk: Vec<serde::de::IgnoredAny>,
    end: Option<String>,
}

/// B9: a page of 20 and one of 100 events.
pub(super) async fn messages(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let launch = Launch::new(folder);
    let site = Site::of(&launch).await?;
    let people = fill::people(&site, 1).await?;
    let rooms = fill::rooms(&site, 1, &people).await?;
    let below: usize = SIZES.iter().map(|(size, _)| size * PAGES).sum();
    fill::messages(&site, &rooms, DEPTH + STRIDE + below, fill::ordinary).await?;
    let room = encoded(rooms[0].id().as_str());
    drop(rooms);
    site.close().await?;
    let server = launch.start().await?;
    let mut wire = Wire::connect(&server.base, &people[0].token).await?;
    let path = |limit: usize, from: Option<&str>| {
        let from = from.map(|from| format!("&from={}", encoded(from))).unwrap_or_default();
        format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit={limit}{from}")
    };
    let (mut depth, mut from) = (0, None);
    while depth < DEPTH {
        let page: Page = serde_json::from_slice(wire.call("GET", &path(STRIDE, from.as_deref()), "").await?)?;
        depth += page.chunk.len();
        from = Some(page.end.context("there is more")?);
    }
    let mut figures = Vec::new();
    for (size, goal) in SIZES {
        let mut latencies = Latencies::default();
        for _ in 0..PAGES {
            let path = path(size, from.as_deref());
            let start = clock.monotonic();
            let bytes = wire.call("GET", &path, "").await?;
            latencies.add(clock.monotonic().saturating_sub(start));
            let page: Page = serde_json::from_slice(bytes)?;
            anyhow::ensure!(page.chunk.len() == size, "{} events instead of {size}", page.chunk.len());
            from = Some(page.end.context("there is more")?);
        }
        let what = format!("B9 /messages, {size} events {depth} deep");
        figures.push(Figure::new(format!("{what}, p50"), latencies.ms(0.5), "ms", Goal::AtMost(goal)));
        figures.push(Figure::new(format!("{what}, p99"), latencies.ms(0.99), "ms", Goal::None));
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(figures.into_iter().map(|figure| figure.peak(peak)).collect())
}
