//! A network of whole servers that share a room while the network between them is bad, by seed: users act at random, links delay, lose, double and reorder
//! requests, and part of the servers is cut off now and then. Then the network heals, and after a bounded time the servers agree (`properties.rs`).
//!
//! What users do and what the network does follow from the seed, and time passes only while everybody waits (`time.rs`). The order in which hash maps are
//! read does not follow from it; the properties have to hold in every case.

mod actions;
mod properties;
mod reading;
mod time;

use std::{sync::Arc, time::Duration};

use primitives::Random;
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

use time::Pace;

/// The versions that rooms are made in, by seed.
const VERSIONS: [&str; 3] = ["10", "11", "12"];
/// What happens while the network is bad.
const ACTIONS: u64 = 50;
/// Actions during which servers are cut off, at most, and how long users wait between two of them: mostly so that what was missed is sent again, and fits
/// into one answer to `get_missing_events`; in one run of three for hours, so that servers have gaps afterwards.
const SHORT_CUTS: (u64, Duration) = (8, BETWEEN_ACTIONS);
const LONG_CUTS: (u64, Duration) = (45, Duration::from_mins(10));
/// How long users wait between two actions, at most.
const BETWEEN_ACTIONS: Duration = Duration::from_secs(4);
/// How far the clock goes at once: while the network is bad, and while everybody waits for what was put off.
const TICK: Duration = Duration::from_millis(100);
const LONG_TICK: Duration = Duration::from_secs(5);
/// How often each server says something before all have to agree, and how long the others have to hear of it.
const HEALING_ROUNDS: usize = 20;
const HEALING_ROUND: Duration = Duration::from_mins(30);

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
    pace: Arc<Pace>,
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
pub fn run(seed: u64) -> Result<Outcome, String> {
    let (runtime, pace) = Pace::new(TICK).map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut simulation = Simulation::new(seed, pace).await?;
        let outcome = simulation.play().await;
        simulation.end().await;
        outcome
    })
}

impl Simulation {
    /// Servers that share a room, on a good network.
    async fn new(seed: u64, pace: Arc<Pace>) -> Result<Self, String> {
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
        pace.start(world.clock.clone());
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
        let simulation =
            Self { world, servers, random, room_id, version, anchors, guests, gaps, sent, tasks, cancel, pace };
        let via = [simulation.servers[0].name.clone()];
        for (server, anchor) in simulation.servers.iter().zip(&simulation.anchors).skip(1) {
            let joined = server.parts.rooms.join(anchor, &simulation.room_id, &via, Details::default()).await;
            joined.map_err(|error| format!("{anchor} can't join: {error}"))?;
        }
        Ok(simulation)
    }

    async fn play(&mut self) -> Result<Outcome, String> {
        self.pace.set(LONG_TICK);
        self.settle(Duration::from_mins(5)).await;
        self.pace.set(TICK);
        self.gaps = self.held().await.iter().map(|(_, held)| held.gaps).collect();
        self.storm().await;
        self.world.links.heal();
        self.agree().await?;
        let held = self.held().await;
        let with_gaps = held.iter().zip(&self.gaps).filter(|((_, held), gaps)| held.gaps > **gaps).count();
        self.read().await?;
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
        self.world.links.weather(Weather {
            delay: self.up_to(Duration::from_secs(3)),
            request_lost: self.random.below(151),
            answer_lost: self.random.below(151),
            twice: self.random.below(101),
        });
        let cuts = if self.random.below(3) == 0 { LONG_CUTS } else { SHORT_CUTS };
        let mut cut_for = 0;
        for _ in 0..ACTIONS {
            if cut_for > 0 {
                cut_for -= 1;
                if cut_for == 0 {
                    self.world.links.part([]);
                    self.pace.set(TICK);
                    self.settle(Duration::from_mins(3)).await;
                }
            } else if self.random.below(10) == 0 {
                self.cut();
                self.pace.set(if cuts == LONG_CUTS { LONG_TICK } else { TICK });
                cut_for = 1 + self.random.below(cuts.0);
            }
            self.act().await;
            let longest = if cut_for > 0 { cuts.1 } else { BETWEEN_ACTIONS };
            self.settle(self.up_to(longest)).await;
        }
    }

    /// Cuts some servers off from the others.
    fn cut(&self) {
        let servers = self.servers.iter().filter(|_| self.random.below(2) == 0);
        self.world.links.part(servers.map(|server| server.name.clone()));
    }

    fn up_to(&self, longest: Duration) -> Duration {
        Duration::from_millis(self.random.below(1 + u64::try_from(longest.as_millis()).unwrap_or(u64::MAX - 1)))
    }

    /// The network is good again. Each server says something now and then, so that the others hear of what they missed, until all agree.
    async fn agree(&mut self) -> Result<(), String> {
        self.pace.set(LONG_TICK);
        let mut fault = String::new();
        for _ in 0..HEALING_ROUNDS {
            for at in 0..self.servers.len() {
                let draft = Draft::message(self.anchors[at].as_str(), "is everybody there?");
                self.send(at, &draft).await;
            }
            self.settle(HEALING_ROUND).await;
            match self.idle().and(properties::agreed(&self.held().await)) {
                Ok(()) => return Ok(()),
                Err(found) => fault = found,
            }
        }
        Err(fault)
    }

    /// Nothing waits in the memory of a server: everything was sent, and what came was taken in.
    fn idle(&self) -> Result<(), String> {
        for server in &self.servers {
            let ((events, behind), coming) = (server.dispatcher.waiting(), server.federation.inbound.waiting());
            if events + behind + coming > 0 {
                let name = &server.name;
                return Err(format!(
                    "{name}: {events} events and {coming} transactions wait, {behind} servers are behind"
                ));
            }
        }
        Ok(())
    }

    /// What each server's users can read back to, and what each server holds then.
    async fn read(&self) -> Result<(), String> {
        let mut pages = Vec::new();
        for at in 0..self.servers.len() {
            self.read_back(at).await?;
            // What was fetched is on the pages now.
            pages.push(self.read_back(at).await?);
        }
        let held = self.held().await;
        properties::whole(&held, &self.sent)?;
        held.iter().zip(&pages).try_for_each(|((server, room), read)| properties::read_once(server, room, read))?;
        self.sound().await
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
        self.tasks.wait().await;
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
