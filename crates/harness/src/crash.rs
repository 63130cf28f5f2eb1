//! The crash run: clients record every acknowledged request while the server is killed at random moments and started again; then nothing
//! acknowledged may be missing, nothing may be there twice, and every due delayed event was sent exactly once. After every start account data and
//! receipts are as they were acknowledged; at the end unread counts are what the timelines and receipts say, no
//! one-time key was given out twice, and who looked at others' devices when they were told to knows them as they are.

mod counts;
mod follower;
mod kept;
mod keys;
mod ledger;
mod lists;
mod verify;
mod worker;

use std::{path::Path, sync::Arc, time::Duration};

use primitives::Random;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::Client,
    power,
    process::{Launch, Server},
};

pub use ledger::Ledger;
pub use verify::{Outcome, check_store};

/// What a crash run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many times the server is ended and started again.
    pub kills: usize,
    /// How many clients write at the same time.
    pub clients: usize,
    /// Only delayed events are written.
    pub only_delayed: bool,
    /// Each end is a power cut: every file is cut back to its length at its last completed sync.
    pub power_cut: bool,
    /// `storage.durability` of the server.
    pub durability: &'static str,
}

/// Kills after which the streams of lists of devices are looked at.
const STREAMS_EVERY: usize = 5;

/// Runs the plan in a new folder and says what came of it.
pub async fn run(plan: &Plan, folder: &Path) -> anyhow::Result<Outcome> {
    let random = Random::os();
    let mut launch = Launch::new(folder);
    launch.durability = plan.durability;
    let recorder = if plan.power_cut { Some(power::Recorder::install(&mut launch)?) } else { None };
    let mut server = launch.start().await?;
    let ledger = Arc::new(Ledger::default());
    let users = settle(&server, plan).await?;
    let mut followers = follower::Followers::new(&users);
    let (mut lost, mut torn, mut streams) = (Vec::new(), Vec::new(), lists::Streams::default());
    for round in 1..=plan.kills {
        let alive = CancellationToken::new();
        let tracker = TaskTracker::new();
        for index in 0..users.len() {
            let worker = worker::Worker::new(&users, &server.base, &ledger, plan.only_delayed, round, index);
            tracker.spawn(alive.clone().run_until_cancelled_owned(worker.work()));
        }
        followers.start(&server.base, &tracker, &alive);
        tokio::time::sleep(Duration::from_millis(50 + random.below(900))).await;
        server.kill()?;
        alive.cancel();
        tracker.close();
        tracker.wait().await;
        if let Some(recorder) = &recorder {
            recorder.cut(&launch.data())?;
        } else if round % STREAMS_EVERY == 0 {
            // Not in power cuts: what is written here is not recorded.
            torn.extend(streams.follow(&launch.data()).await?);
        }
        server = launch.start().await?;
        lost.extend(kept::lost(&ledger, &users, &server.base).await?.into_iter().map(|what| format!("{what}@{round}")));
        let unnamed = lists::lost(&ledger, &users, &server.base).await?;
        lost.extend(unnamed.into_iter().map(|what| format!("{what}@{round}")));
        verify::settle_open(&ledger, &users, &server.base).await?;
        if round % 10 == 0 {
            println!("{round} of {} ends, {} requests acknowledged", plan.kills, ledger.acknowledged());
        }
    }
    // Every delay is below two seconds; this is the time for the last of them.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut outcome = verify::verify(&ledger, &users, &mut followers, &server).await?;
    outcome.lost.extend(lost);
    outcome.torn.extend(torn);
    anyhow::ensure!(server.stop().await?.success(), "the server did not end with success");
    Ok(outcome)
}

/// A user of the run with the room that the user writes in.
#[derive(Clone, Debug)]
pub struct User {
    /// The client.
    pub client: Client,
    /// The room, shared with one other user.
    pub room: String,
    /// The device that the client is logged in on.
    pub device: String,
    /// Everybody in the room, the user too.
    pub mates: Vec<String>,
}

/// The user to whose devices the user of that index sends.
fn neighbour(users: &[User], index: usize) -> &User {
    &users[(index + 1) % users.len()]
}

async fn settle(server: &Server, plan: &Plan) -> anyhow::Result<Vec<User>> {
    let mut users: Vec<User> = Vec::new();
    for index in 0..plan.clients {
        let client = Client::register(&server.base, &format!("crash{index}")).await?;
        let room = match users.last() {
            Some(other) if index % 2 == 1 => {
                client.join(&other.room).await?;
                other.room.clone()
            }
            _ => client.create_room().await?,
        };
        let device = keys::device_of(&client).await?;
        lists::begin(&client, &device).await?;
        users.push(User { client, room, device, mates: Vec::new() });
    }
    let members: Vec<_> = users.iter().map(|user| (user.room.clone(), user.client.user_id.clone())).collect();
    for user in &mut users {
        let mates = members.iter().filter(|(room, _)| *room == user.room);
        user.mates = mates.map(|(_, mate)| mate.clone()).collect();
    }
    Ok(users)
}
