//! Start-up with 100,000 events, after a clean stop and after a kill.

use std::{path::Path, time::Duration};

use primitives::{Clock, SystemClock};
use tokio_util::task::TaskTracker;

use super::table::{Figure, Goal};
use crate::{client::Client, process::Launch};

const EVENTS: usize = 100_000;
const WRITERS: usize = 50;

/// The time from the start of the process to its first answer.
pub(super) async fn with_events(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let launch = Launch::new(folder);
    let server = launch.start().await?;
    let tracker = TaskTracker::new();
    for writer in 0..WRITERS {
        let client = Client::register(&server.base, &format!("writer{writer}")).await?;
        let room = client.create_room().await?;
        tracker.spawn(async move {
            for count in 0..EVENTS / WRITERS {
                client.send(&room, &format!("t{count}"), "one of many").await?;
            }
            Ok::<_, crate::client::CallError>(())
        });
    }
    tracker.close();
    tracker.wait().await;
    // The kill comes right after the last write: what is not in the database's files yet is in its log.
    server.kill()?;
    let start = clock.monotonic();
    let server = launch.start().await?;
    let killed = clock.monotonic().saturating_sub(start);
    anyhow::ensure!(server.stop().await?.success(), "the server did not end with success");
    let start = clock.monotonic();
    let server = launch.start().await?;
    let clean = clock.monotonic().saturating_sub(start);
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let seconds = |span: Duration| span.as_secs_f64();
    Ok(vec![
        Figure::new("start with 100,000 events, after a clean stop", seconds(clean), "s", Goal::AtMost(0.3)).peak(peak),
        Figure::new("start with 100,000 events, after a kill", seconds(killed), "s", Goal::AtMost(5.0)),
    ])
}
