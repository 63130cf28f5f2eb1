//! Benchmarks: figures with their units, goals and the server's peak memory. Every figure is measured on a server of its own.

mod crypto;
mod deep;
mod delayed;
mod engine;
mod fairness;
mod fan_out;
mod fill;
mod find;
mod fork;
mod inbound;
mod initial;
mod join;
mod large;
mod rooms;
mod search;
mod send;
mod site;
mod start;
mod sync;
mod table;
mod tree;
mod wake;
mod wire;

use std::path::Path;

use clap::ValueEnum;

pub use table::{Figure, Goal, Table};

/// A set of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Sending, syncing, starting, and the chief figures of delayed events.
    Spine,
    /// What clients ask for all day: news for many at once, initial syncs, history, members, spaces, search.
    Client,
    /// Every figure of delayed events (B10).
    Delayed,
    /// Keys and messages to devices.
    Crypto,
    /// Other servers: their transactions into a large room (B6), forks (B7), joins (B8), one event for many of them.
    Federation,
}

/// Measures a suite and prints its table as it grows. With `only`, leaves out the parts whose name does not contain it.
pub async fn run(suite: Suite, only: Option<&str>) -> anyhow::Result<()> {
    let mut table = Table::default();
    macro_rules! part {
        ($($suite:ident)|+, $name:literal, $measure:path) => {
            if matches!(suite, $(Suite::$suite)|+) && only.is_none_or(|only| $name.contains(only)) {
                let folder = tempfile::tempdir()?;
                let path: &Path = folder.path();
                for figure in $measure(path).await? {
                    table.add(figure);
                }
            }
        };
    }
    part!(Spine, "B1", send::sequential);
    part!(Spine, "B2", send::parallel);
    part!(Spine, "B2 crate", rooms::sends);
    part!(Spine, "B5", sync::incremental);
    part!(Spine, "tree", tree::figures);
    part!(Spine | Federation, "B7 fork", fork::figures);
    part!(Spine, "start", start::with_events);
    part!(Client, "B3", wake::many);
    part!(Client, "B4", initial::syncs);
    part!(Client, "B9 messages", deep::messages);
    part!(Client, "B9 members", large::members);
    part!(Client, "large", large::send);
    part!(Client, "find", find::figures);
    part!(Client, "search", search::figures);
    part!(Spine | Delayed, "delayed", delayed::over_a_second);
    part!(Spine | Delayed, "delayed engine", engine::throughput);
    part!(Spine | Delayed, "delayed pending", engine::pending);
    part!(Delayed, "rooms", delayed::at_once_in_many_rooms);
    part!(Delayed, "one room", delayed::at_once_in_one_room);
    part!(Delayed, "alone", delayed::alone);
    part!(Delayed, "fairness", fairness::figures);
    part!(Delayed, "heartbeats", engine::heartbeats);
    part!(Crypto, "claims", crypto::claims);
    part!(Crypto, "queries", crypto::queries);
    part!(Crypto, "to many", crypto::to_many);
    part!(Crypto, "batches", crypto::batches);
    part!(Crypto, "to device sync", crypto::sync);
    part!(Crypto, "change", crypto::change);
    part!(Federation, "B6", inbound::transactions);
    part!(Federation, "B7 storm", inbound::storm);
    part!(Federation, "B8", join::large_rooms);
    part!(Federation, "fan-out", fan_out::figures);
    println!("{table}");
    Ok(())
}
