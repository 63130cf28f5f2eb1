//! The state tree alone: one change, and the difference of two states, at 10,000 and 100,000 entries.

use std::{collections::HashMap, path::Path, sync::Arc};

use primitives::{Clock, KeyedHash, NodeId, Rix, Slot, SystemClock};
use rooms::{
    Membership,
    state::{Change, EMPTY, FIRST_MEMBER_SLOT, NewNodes, Node, apply, diff},
};

use super::table::{Figure, Goal};

/// Measurements of each size.
const ROUNDS: u32 = 20_000;

type Nodes = HashMap<NodeId, Arc<Node>>;

fn change(member: u32, rix: u32) -> Change {
    Change { slot: Slot(FIRST_MEMBER_SLOT.0 + member), rix: Rix(rix), membership: Some(Membership::Join) }
}

/// The tree's figures.
pub(super) async fn figures(_: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for size in [10_000, 100_000] {
        figures.extend(of_size(size)?);
    }
    Ok(figures)
}

fn of_size(size: u32) -> anyhow::Result<Vec<Figure>> {
    let clock = SystemClock::new();
    let hash = KeyedHash::new([7; 16]);
    let (mut nodes, mut new) = (Nodes::new(), NewNodes::new(NodeId(1)));
    let all: Vec<Change> = (0..size).map(|member| change(member, member + 1)).collect();
    let root = apply(&nodes, EMPTY, &all, &hash, &mut new)?;
    nodes.extend(new.take());
    let (mut bytes, mut changed) = (0, Vec::new());
    let start = clock.monotonic();
    for round in 0..ROUNDS {
        let member = round.wrapping_mul(2_654_435_761) % size;
        changed.push(apply(&nodes, root, &[change(member, size + round + 1)], &hash, &mut new)?);
        let made = new.take();
        bytes += made.iter().map(|(_, node)| node.encode().len()).sum::<usize>();
        nodes.extend(made);
    }
    let update = (clock.monotonic().saturating_sub(start)) / ROUNDS;
    let start = clock.monotonic();
    for after in &changed {
        anyhow::ensure!(diff(&nodes, root, *after)?.len() == 1, "one change is one difference");
    }
    let difference = clock.monotonic().saturating_sub(start) / ROUNDS;
    let micros = |span: std::time::Duration| span.as_secs_f64() * 1e6;
    let bytes = f64::from(u32::try_from(bytes)?) / f64::from(ROUNDS);
    Ok(vec![
        Figure::new(format!("state tree of {size}: one change, encoded"), micros(update), "µs", Goal::None),
        Figure::new(format!("state tree of {size}: bytes of one change"), bytes, "B", Goal::None),
        Figure::new(format!("state tree of {size}: difference of one change"), micros(difference), "µs", Goal::None),
    ])
}
