//! One-time keys, claimed at the crate's API by many at once, each commit synced.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ruma::OwnedUserId;
use tokio_util::task::TaskTracker;
use users::keys::Claims;

use super::{
    super::{
        site::{Site, cpu},
        table::{Figure, Goal},
    },
    fill::{self, Plan},
};

/// Those who claim at the same time.
const CLAIMERS: usize = 64;
const PLAN: Plan = Plan { users: 400, devices: 1, one_time_keys: 50 };

pub(in crate::bench) async fn claims(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = Site::open(folder).await?;
    fill::fill(&site.users, PLAN).await?;
    let all = PLAN.users * PLAN.one_time_keys;
    let server = site.alice.server_name();
    let ids = (0..PLAN.users).map(|user| OwnedUserId::try_from(format!("@{}:{server}", fill::name(user))));
    let ids: Arc<Vec<_>> = Arc::new(ids.collect::<Result<_, _>>()?);
    let (tracker, next, issued) = (TaskTracker::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (start, cpu_start) = (site.clock.monotonic(), cpu());
    for _ in 0..CLAIMERS {
        let (users, ids) = (site.users.clone(), Arc::clone(&ids));
        let (next, issued) = (Arc::clone(&next), Arc::clone(&issued));
        tracker.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= all {
                    return;
                }
                let wanted = [(fill::device(0).into(), fill::ALGORITHM.to_owned())].into();
                let claims = Claims::from([(ids[number % ids.len()].clone(), wanted)]);
                let answer = users.keys().claim(claims).await.expect("the store works");
                issued.fetch_add(answer.values().map(std::collections::BTreeMap::len).sum(), Ordering::Relaxed);
            }
        });
    }
    tracker.close();
    tracker.wait().await;
    let span = site.clock.monotonic().saturating_sub(start).as_secs_f64();
    let used = cpu().saturating_sub(cpu_start).as_secs_f64();
    anyhow::ensure!(issued.load(Ordering::Relaxed) == all, "not every claim was answered with a key");
    site.close().await?;
    let keys = f64::from(u32::try_from(all)?);
    Ok(vec![
        Figure::new("keys claimed, per second of one core", keys / used, "/s", Goal::AtLeast(5_000.0)),
        Figure::new("keys claimed, in all", keys / span, "/s", Goal::None),
    ])
}
