//! B4: initial syncs of users in many rooms of many members, twenty at once.

use std::path::Path;

use primitives::{Clock, SystemClock};
use tokio_util::task::TaskTracker;

use super::{
    engine::SCALE,
    fill::{self, Person},
    site::Site,
    table::{Figure, Goal},
    wire::Wire,
};
use crate::{client::encoded, process::Launch};

const ROOMS: usize = 300 / SCALE as usize;
const MEMBERS: usize = 300 / SCALE as usize;
/// Messages in each room.
const MESSAGES: usize = 20;
const AT_ONCE: usize = 20;

/// B4: how fast JSON comes, and what memory it takes. Every server is fresh: it has read nothing yet.
pub(super) async fn syncs(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let launch = Launch::new(folder);
    let site = Site::of(&launch).await?;
    let people = fill::people(&site, MEMBERS.max(AT_ONCE)).await?;
    let rooms = fill::rooms(&site, ROOMS, &people).await?;
    fill::messages(&site, &rooms, ROOMS * MESSAGES, fill::ordinary).await?;
    drop(rooms);
    site.close().await?;
    let mut figures = Vec::new();
    for (how, lazy) in [("lazy", true), ("full", false)] {
        let filter = format!(r#"{{"room":{{"state":{{"lazy_load_members":{lazy}}}}}}}"#);
        figures.extend(at_once(&launch, &people[..AT_ONCE], how, &filter).await?);
    }
    Ok(figures)
}

async fn at_once(launch: &Launch, people: &[Person], how: &str, filter: &str) -> anyhow::Result<[Figure; 4]> {
    let clock = SystemClock::new();
    let server = launch.start().await?;
    server.forget_peak()?;
    let (idle, cpu, start) = (server.memory_kib("VmRSS")?, server.cpu()?, clock.monotonic());
    let tasks = TaskTracker::new();
    let path = format!("/_matrix/client/v3/sync?set_presence=offline&filter={}", encoded(filter));
    let syncs: Vec<_> = people
        .iter()
        .map(|person| {
            let (base, token, path) = (server.base.clone(), person.token.clone(), path.clone());
            tasks.spawn(async move { Wire::connect(&base, &token).await?.drain(&path).await })
        })
        .collect();
    let mut bytes = 0;
    for sync in syncs {
        bytes += sync.await??;
    }
    let span = clock.monotonic().saturating_sub(start).as_secs_f64();
    let cpu = server.cpu()?.saturating_sub(cpu).as_secs_f64().max(0.01);
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "a few gigabytes are far below 2^53")]
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let total = megabytes(bytes);
    let above = megabytes(peak.saturating_sub(idle) * 1_024);
    let what = format!("B4 {AT_ONCE} initial syncs of {ROOMS} rooms of {MEMBERS}, {how}");
    Ok([
        Figure::new(format!("{what}: JSON in all"), total, "MB", Goal::None).peak(peak),
        Figure::new(format!("{what}: until the last has all"), span, "s", Goal::None).peak(peak),
        Figure::new(format!("{what}: JSON per second of one core"), total / cpu, "MB/s", Goal::AtLeast(150.0))
            .peak(peak),
        Figure::new(format!("{what}: memory above idle"), above, "MB", Goal::AtMost(200.0)).peak(peak),
    ])
}
