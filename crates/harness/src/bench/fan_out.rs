//! One event in a room of 500 servers, of which 50 answer nothing: how long until the others have it.

use std::{path::Path, time::Duration};

use primitives::{Clock, SystemClock};
use rooms::{CreateRoom, Outgoing, Preset};
use ruma::canonical_json::CanonicalJsonObject;
use testkit::{crowd::Crowd, world::World};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::table::{Figure, Goal};

const SERVERS: usize = 500;
const DEAD: usize = 50;
const ROUNDS: u32 = 20;
/// How often it is looked whether all have it.
const LOOK: Duration = Duration::from_micros(200);

pub(super) async fn figures(_: &Path) -> anyhow::Result<Vec<Figure>> {
    let world = World::new();
    let here = world.server("hs.test", 1).await;
    let alice = here.user("alice").await;
    let public = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::new(alice.clone()) };
    let id = here.parts.rooms.create(public).await?;
    let room = here.parts.rooms.room(&id).await?;
    let crowd = Crowd::gather(&world, SERVERS);
    crowd.join(&here, &room, &alice).await;
    crowd.kill(&world, DEAD);
    crowd.take_told();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (dispatcher, stopped) = (here.dispatcher.clone(), stop.clone());
    tasks.spawn(async move { dispatcher.run(stopped).await });
    let clock = SystemClock::new();
    let (mut first, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let before = clock.monotonic();
        room.send(Outgoing::message(alice.clone(), "m.room.message", CanonicalJsonObject::new())).await?;
        while crowd.told() < SERVERS - DEAD {
            tokio::time::sleep(LOOK).await;
        }
        let took = clock.monotonic().saturating_sub(before);
        crowd.take_told();
        if round == 0 {
            first = took;
        } else {
            slowest = slowest.max(took);
        }
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    let figure = |what: &str, span: Duration| {
        let name = format!("fan-out to {SERVERS} servers, {DEAD} of them dead: {what}");
        Figure::new(name, span.as_secs_f64() * 1_000.0, "ms", Goal::AtMost(1_000.0))
    };
    Ok(vec![figure("the first event", first), figure(&format!("the slowest of {}", ROUNDS - 1), slowest)])
}
