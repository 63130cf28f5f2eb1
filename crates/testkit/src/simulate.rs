//! A network of whole servers that share a room while the network between them is bad, by seed: users act at random, links delay, lose, double and reorder
//! requests, and part of the servers is cut off now and then. Then the network heals, and after a bounded time the servers agree (`properties.rs`).
//!
//! What users do and what the network does follow from the seed. How the tasks of the servers interleave does not, so a seed that fails once may pass
//! the next time; the properties have to hold in every case.

mod actions;
mod properties;

use std::{sync::Arc, time::Duration};

use primitives::{ManualClock, Random};
use rooms::{CreateRoom, Details, Preset, Room};
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    held::Held,
    hostile::Draft,
    links::Weather,
    world::{Server, World},
};

pub use properties::check;

/// The versions that rooms are made in, by seed.
const VERSIONS: [&str; 3] = ["10", "11", "12"];
/// What happens while the network is bad.
const ACTIONS: u64 = 40;
/// Actions during which servers are cut off, at most: as many events as one answer to `get_missing_events` holds can be missed.
const LONGEST_PARTITION: u64 = 8;
/// How far the clock goes at once: while the network is bad, and while everybody waits for what was put off.
const TICK: Duration = Duration::from_millis(100);
const LONG_TICK: Duration = Duration::from_secs(20);
/// Real time between two ticks, in which the servers work.
const PAUSE: Duration = Duration::from_micros(300);
/// Ticks after which servers have to agree: hours of their time.
const HEALING_TICKS: usize = 2_000;

/// A run.
pub struct Simulation {
    world: World,
    servers: Vec<Arc<Server>>,
    random: Random,
    room_id: OwnedRoomId,
    version: &'static str,
    /// The first user of each server, who never leaves.
    anchors: Vec<OwnedUserId>,
    /// Another user of each server, who comes and goes.
    guests: Vec<OwnedUserId>,
    /// Gaps on each server before the network became bad: what was before it joined.
    gaps: Vec<usize>,
    /// What was sent since the network became bad.
    sent: Vec<OwnedEventId>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The room's version.
    pub version: &'static str,
    /// How many servers there were.
    pub servers: usize,
    /// Events that were sent while the network was bad.
    pub events: usize,
    /// Requests that the network spoiled.
    pub troubles: u64,
    /// Servers that have a gap in the room since: they were away for long.
    pub with_gaps: usize,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("room", &self.room_id).finish_non_exhaustive()
    }
}

/// Runs a seed. The error says which property doesn't hold.
///
/// # Errors
/// Servers don't agree, or what they hold isn't sound.
pub async fn run(seed: u64) -> Result<Outcome, String> {
    let mut simulation = Simulation::new(seed).await?;
    let outcome = simulation.play().await;
    simulation.end().await;
    outcome
}

impl Simulation {
    /// Servers that share a room, on a good network.
    async fn new(seed: u64) -> Result<Self, String> {
        let (world, random) = (World::new(), Random::seeded(seed));
        world.links.seed(seed);
        let count = 2 + usize::try_from(random.below(3)).unwrap_or_default();
        let version = VERSIONS[usize::try_from(random.below(3)).unwrap_or_default()];
        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (mut servers, mut anchors, mut guests) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let server =
                Arc::new(world.server(&format!("s{number}.test"), u8::try_from(number).unwrap_or(0) + 1).await);
            start(&server, &tasks, &cancel);
            anchors.push(server.user("anchor").await);
            guests.push(server.user("guest").await);
            servers.push(server);
        }
        tasks.spawn(let_time_pass(world.clock.clone(), cancel.clone()));
        let levels = json!({ "users_default": 50, "events_default": 0 });
        let levels: ruma::CanonicalJsonObject = serde_json::from_value(levels).expect("canonical JSON");
        let create = CreateRoom {
            version: Some(version.to_owned()),
            preset: Some(Preset::PublicChat),
            power_level_content_override: levels,
            ..CreateRoom::new(anchors[0].clone())
        };
        let room_id = servers[0].parts.rooms.create(create).await.map_err(|error| error.to_string())?;
        let (sent, gaps) = (Vec::new(), Vec::new());
        let simulation = Self { world, servers, random, room_id, version, anchors, guests, gaps, sent, tasks, cancel };
        let via = [simulation.servers[0].name.clone()];
        for (server, anchor) in simulation.servers.iter().zip(&simulation.anchors).skip(1) {
            let joined = server.parts.rooms.join(anchor, &simulation.room_id, &via, Details::default()).await;
            joined.map_err(|error| format!("{anchor} can't join: {error}"))?;
        }
        Ok(simulation)
    }

    async fn play(&mut self) -> Result<Outcome, String> {
        self.settle(Duration::from_mins(5)).await;
        self.gaps = self.held().await.iter().map(|(_, held)| held.gaps).collect();
        self.storm().await;
        self.world.links.heal();
        self.agree().await?;
        let held = self.held().await;
        let with_gaps = held.iter().zip(&self.gaps).filter(|((_, held), gaps)| held.gaps > **gaps).count();
        Ok(Outcome {
            with_gaps,
            version: self.version,
            servers: self.servers.len(),
            events: self.sent.len(),
            troubles: self.world.links.troubles(),
        })
    }

    /// Users act while the network is bad.
    async fn storm(&mut self) {
        let some = |random: &Random, most: u64| random.below(most + 1);
        self.world.links.weather(Weather {
            delay: Duration::from_millis(some(&self.random, 3_000)),
            request_lost: some(&self.random, 150),
            answer_lost: some(&self.random, 150),
            twice: some(&self.random, 100),
        });
        let mut cut_for = 0;
        for _ in 0..ACTIONS {
            if cut_for > 0 {
                cut_for -= 1;
                if cut_for == 0 {
                    self.world.links.part([]);
                    self.settle(Duration::from_mins(3)).await;
                }
            } else if self.random.below(10) == 0 {
                let apart: Vec<OwnedServerName> = self
                    .servers
                    .iter()
                    .filter(|_| self.random.below(2) == 0)
                    .map(|server| server.name.clone())
                    .collect();
                self.world.links.part(apart);
                cut_for = 1 + self.random.below(LONGEST_PARTITION);
            }
            self.act().await;
            self.settle(Duration::from_millis(self.random.below(4_000))).await;
        }
    }

    /// The network is good again. Each server says something now and then, so that the others hear of what they missed, until all agree.
    async fn agree(&mut self) -> Result<(), String> {
        let mut fault = String::new();
        for tick in 0..HEALING_TICKS {
            self.world.clock.advance(LONG_TICK);
            tokio::time::sleep(PAUSE).await;
            if tick % 100 == 0 {
                for at in 0..self.servers.len() {
                    let draft = Draft::message(self.anchors[at].as_str(), "is everybody there?");
                    self.send(at, &draft).await;
                }
            }
            if tick % 50 == 49 {
                match check(&self.held().await, &self.gaps, &self.sent) {
                    Ok(()) => return self.sound().await,
                    Err(found) => fault = found,
                }
            }
        }
        Err(fault)
    }

    /// What each server holds is consistent in itself.
    async fn sound(&self) -> Result<(), String> {
        for server in &self.servers {
            let report = server.parts.rooms.verify().await.map_err(|error| error.to_string())?;
            if !report.is_whole() {
                return Err(format!("{}: {report:?}", server.name));
            }
        }
        Ok(())
    }

    async fn held(&self) -> Vec<(OwnedServerName, Held)> {
        let mut held = Vec::new();
        for server in &self.servers {
            held.push((server.name.clone(), server.parts.held(&self.room_id).await.expect("the room is known")));
        }
        held
    }

    async fn room(&self, at: usize) -> Room {
        self.servers[at].parts.rooms.room(&self.room_id).await.expect("the room is known")
    }

    /// Lets at least so much of the servers' time pass.
    async fn settle(&self, span: Duration) {
        use primitives::Clock;
        self.world.clock.sleep(span).await;
    }

    async fn end(&self) {
        self.cancel.cancel();
        self.tasks.close();
        // What waits for the clock has to see that it is over.
        while tokio::time::timeout(Duration::from_millis(1), self.tasks.wait()).await.is_err() {
            self.world.clock.advance(LONG_TICK);
        }
        for server in &self.servers {
            server.parts.rooms.close().await;
        }
    }
}

/// Starts what runs in a server beside its requests.
fn start(server: &Arc<Server>, tasks: &TaskTracker, cancel: &CancellationToken) {
    let (of, until) = (server.clone(), cancel.clone());
    tasks.spawn(async move { of.dispatcher.run(until).await });
    let (of, until) = (server.clone(), cancel.clone());
    tasks.spawn(async move { of.parts.jobs.run(until).await });
    let (of, until) = (server.clone(), cancel.clone());
    tasks.spawn(async move { of.parts.projections.run(until).await });
}

/// The clock goes on by itself, many times faster than a real one.
async fn let_time_pass(clock: Arc<ManualClock>, cancel: CancellationToken) {
    while !cancel.is_cancelled() {
        clock.advance(TICK);
        tokio::time::sleep(PAUSE).await;
    }
}
