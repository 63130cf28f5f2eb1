//! Benchmarks: figures with their units, goals and the server's peak memory. Every figure is measured on a server of its own.

mod delayed;
mod engine;
mod fork;
mod rooms;
mod send;
mod start;
mod sync;
mod table;
mod tree;
mod wire;

use std::path::Path;

use clap::ValueEnum;

pub use table::{Figure, Goal, Table};

/// A set of figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Sending, syncing, starting, delayed events.
    Spine,
}

/// Measures a suite and prints its table as it grows. With `only`, leaves out the parts whose name does not contain it.
pub async fn run(suite: Suite, only: Option<&str>) -> anyhow::Result<()> {
    let Suite::Spine = suite;
    let mut table = Table::default();
    let wanted = |name: &str| only.is_none_or(|only| name.contains(only));
    macro_rules! part {
        ($name:literal, $measure:path) => {
            if wanted($name) {
                let folder = tempfile::tempdir()?;
                let path: &Path = folder.path();
                for figure in $measure(path).await? {
                    table.add(figure);
                }
            }
        };
    }
    part!("B1", send::sequential);
    part!("B2", send::parallel);
    part!("B2 crate", rooms::sends);
    part!("B5", sync::incremental);
    part!("tree", tree::figures);
    part!("fork", fork::figures);
    part!("start", start::with_events);
    part!("delayed", delayed::lateness);
    part!("delayed engine", engine::throughput);
    part!("delayed pending", engine::pending);
    println!("{table}");
    Ok(())
}
