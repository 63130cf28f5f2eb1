//! B8: joining a large room that another Sundial serves: until the join is answered, and until the room's state is whole.

use std::{fs, path::Path, time::Duration};

use primitives::{Clock, SystemClock};
use reqwest::Method;
use serde_json::json;

use super::{
    engine::SCALE,
    fill,
    site::Site,
    table::{Figure, Goal},
};
use crate::{
    client::{Client, encoded},
    loopback::Loopback,
    process::Launch,
};

/// State events of the rooms, and in how many seconds their state is to be whole.
const ROOMS: [(usize, f64); 2] = [(10_000 / SCALE as usize, 5.0), (100_000 / SCALE as usize, 40.0)];
/// Until the join is answered, in seconds.
const ANSWERED: f64 = 0.5;
/// The joining server's memory at most, in MiB.
const PEAK_MIB: f64 = 400.0;
/// State events that aren't members who have joined: create, power levels, join rules, history visibility, guest access and name, and who made the room.
const OTHERS: usize = 7;
/// How long is waited for an answer.
const PATIENCE: Duration = Duration::from_mins(5);

/// Both spans and the joining server's peak, for each size of room.
pub(super) async fn large_rooms(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let loopback = Loopback::new(folder)?;
    let mut figures = Vec::new();
    for (events, whole) in ROOMS {
        let size = folder.join(events.to_string());
        figures.extend(large_room(&size, &loopback, events, whole).await?);
    }
    Ok(figures)
}

async fn large_room(folder: &Path, loopback: &Loopback, events: usize, goal: f64) -> anyhow::Result<Vec<Figure>> {
    let launch = |name: &str| -> anyhow::Result<Launch> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        Launch::federating(&folder, loopback)
    };
    let (there, here) = (launch("there")?, launch("here")?);
    let site = Site::of(&there).await?;
    let people = fill::people(&site, events - OTHERS).await?;
    let room = encoded(fill::rooms(&site, 1, &people).await?[0].id().as_str());
    site.close().await?;
    let via = encoded(&there.server_name);
    let (there, here) = (there.start().await?, here.start().await?);
    let alice = Client::register(&here.base, "alice").await?.patient(PATIENCE)?;
    here.forget_peak()?;

    let clock = SystemClock::new();
    let start = clock.monotonic();
    let since = || clock.monotonic().saturating_sub(start).as_secs_f64();
    alice.call(Method::POST, &format!("/_matrix/client/v3/join/{room}?server_name={via}"), Some(json!({}))).await?;
    let answered = since();
    // Members are listed when they are known, not before.
    let path = format!("/_matrix/client/v3/rooms/{room}/members?membership=join");
    let members = alice.call(Method::GET, &path, None).await?;
    let whole = since();
    let listed = members["chunk"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(listed == people.len() + 2, "{listed} members are listed");
    let peak = here.memory_kib("VmHWM")?;
    here.stop().await?;
    there.stop().await?;
    let name = |what: &str| format!("B8 join of {events} state events: {what}");
    Ok(vec![
        Figure::new(name("answered"), answered, "s", Goal::AtMost(ANSWERED)).peak(peak),
        Figure::new(name("whole"), whole, "s", Goal::AtMost(goal)).peak(peak),
        Figure::new(name("peak memory"), super::table::mib(peak), "MiB", Goal::AtMost(PEAK_MIB)).peak(peak),
    ])
}
