//! B1 and B2: sending messages over HTTP.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use primitives::{Clock, SystemClock};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::table::{Figure, Goal, Latencies};
use super::wire::Wire;
use crate::{
    client::{Client, encoded},
    process::Launch,
};

/// B1: one client, one connection, one message after the other.
pub(super) async fn sequential(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let server = Launch::new(folder).start().await?;
    let idle = server.memory_kib("VmRSS")?;
    let alice = Client::register(&server.base, "alice").await?;
    let room = alice.create_room().await?;
    let mut wire = Wire::connect(&server.base, alice.token()).await?;
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message", encoded(&room));
    let body = r#"{"msgtype":"m.text","body":"hello, world"}"#;
    let mut latencies = Latencies::default();
    for count in 0..3_000 {
        let start = clock.monotonic();
        wire.call("PUT", &format!("{path}/t{count}"), body).await?;
        if count >= 500 {
            latencies.add(clock.monotonic().saturating_sub(start));
        }
    }
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    Ok(vec![
        Figure::new("idle memory", super::table::mib(idle), "MiB", Goal::AtMost(40.0)),
        Figure::new("B1 sequential send p50", latencies.ms(0.5), "ms", Goal::AtMost(0.4)).peak(peak),
        Figure::new("B1 sequential send p99", latencies.ms(0.99), "ms", Goal::None).peak(peak),
    ])
}

/// B2: 64 users in 64 rooms on 64 connections, as fast as they can.
pub(super) async fn parallel(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    const CONNECTIONS: usize = 64;
    const SPAN: Duration = Duration::from_secs(8);
    let clock = Arc::new(SystemClock::new());
    let server = Launch::new(folder).start().await?;
    let mut senders = Vec::new();
    for index in 0..CONNECTIONS {
        let client = Client::register(&server.base, &format!("sender{index}")).await?;
        let room = client.create_room().await?;
        senders.push((client, room));
    }
    let sent = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();
    let tracker = TaskTracker::new();
    for (client, room) in senders {
        let sent = Arc::clone(&sent);
        let work = async move {
            for count in 0_u64.. {
                if client.send(&room, &format!("t{count}"), "hello, world").await.is_err() {
                    return;
                }
                sent.fetch_add(1, Ordering::Relaxed);
            }
        };
        tracker.spawn(stop.clone().run_until_cancelled_owned(work));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (start, cpu, before) = (clock.monotonic(), server.cpu()?, sent.load(Ordering::Relaxed));
    tokio::time::sleep(SPAN).await;
    let (span, cpu, count) = (
        clock.monotonic().saturating_sub(start),
        server.cpu()?.saturating_sub(cpu),
        sent.load(Ordering::Relaxed) - before,
    );
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    let peak = server.memory_kib("VmHWM")?;
    server.stop().await?;
    let count = f64::from(u32::try_from(count)?);
    Ok(vec![
        Figure::new("B2 sends over HTTP", count / span.as_secs_f64(), "per s", Goal::AtLeast(5_000.0)).peak(peak),
        Figure::new("B2 server CPU per 1,000 sends", cpu.as_secs_f64() * 1_000.0 / count, "s", Goal::AtMost(0.3))
            .peak(peak),
    ])
}
