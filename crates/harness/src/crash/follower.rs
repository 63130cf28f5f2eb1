//! Long-polling clients that live through every crash: what they see must have no gap.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{User, lists};
use crate::client::{CallError, Client, list, text};

/// What one follower knows.
#[derive(Debug, Default)]
struct Seen {
    since: Option<String>,
    markers: BTreeSet<String>,
    notes: Vec<String>,
    names: lists::Names,
}

/// What one follower has seen.
#[derive(Debug)]
pub(super) struct Heard {
    /// Markers of messages in its room.
    pub(super) markers: BTreeSet<String>,
    /// Markers of messages to its device, each as often as it came in a response whose token was used, in that order.
    pub(super) notes: Vec<String>,
    /// The names of devices, looked up whenever a sync told that a list changed.
    pub(super) names: lists::Names,
}

/// One follower for each user.
#[derive(Debug)]
pub(super) struct Followers(Vec<(User, Arc<Mutex<Seen>>)>);

impl Followers {
    /// Followers that have seen nothing.
    pub(super) fn new(users: &[User]) -> Self {
        Self(users.iter().map(|user| (user.clone(), Arc::default())).collect())
    }

    /// Lets every follower go on from its token.
    pub(super) fn start(&self, base: &str, tracker: &TaskTracker, alive: &CancellationToken) {
        for (user, seen) in &self.0 {
            let user = User { client: user.client.at(base), ..user.clone() };
            let seen = Arc::clone(seen);
            let follow = async move { while step(&user, &seen, Duration::from_secs(5)).await.is_ok() {} };
            tracker.spawn(alive.clone().run_until_cancelled_owned(follow));
        }
    }

    /// Catches up and answers with what each follower saw.
    pub(super) async fn finish(&mut self, base: &str) -> anyhow::Result<Vec<Heard>> {
        let mut all = Vec::new();
        for (user, seen) in &self.0 {
            let user = User { client: user.client.at(base), ..user.clone() };
            while step(&user, seen, Duration::ZERO).await? {}
            let seen = seen.lock().await;
            all.push(Heard { markers: seen.markers.clone(), notes: seen.notes.clone(), names: seen.names.clone() });
        }
        Ok(all)
    }
}

/// One sync; whether it brought anything of the room, for the device, or of lists of devices. What is seen counts only together with the token that follows it.
async fn step(user: &User, seen: &Mutex<Seen>, timeout: Duration) -> Result<bool, CallError> {
    let since = seen.lock().await.since.clone();
    let answer = user.client.sync(since.as_deref(), timeout).await?;
    let room = &answer["rooms"]["join"][user.room.as_str()];
    let timeline = &room["timeline"];
    let mut markers = markers_of(list(&timeline["events"]));
    if timeline["limited"].as_bool() == Some(true) {
        markers.extend(fill(&user.client, &user.room, timeline, since.as_deref()).await?);
    }
    let changed: Vec<_> = match since {
        Some(_) => list(&answer["device_lists"]["changed"]).iter().map(|user| text(user).to_owned()).collect(),
        None => user.mates.clone(),
    };
    let names = lists::look(&user.client, &changed).await?;
    let mut seen = seen.lock().await;
    seen.since = Some(text(&answer["next_batch"]).to_owned());
    let notes = list(&answer["to_device"]["events"]);
    let news = !room.is_null() || !notes.is_empty() || !changed.is_empty();
    seen.names.extend(names);
    seen.markers.extend(markers);
    seen.notes.extend(notes.iter().map(|event| text(&event["content"]["marker"]).to_owned()));
    Ok(news)
}

async fn fill(
    client: &Client,
    room: &str,
    timeline: &Value,
    since: Option<&str>,
) -> Result<BTreeSet<String>, CallError> {
    let events = client.history_from(room, timeline["prev_batch"].as_str(), since).await?;
    Ok(markers_of(&events))
}

fn markers_of(events: &[Value]) -> BTreeSet<String> {
    let messages = events.iter().filter(|event| event["type"] == "m.room.message");
    messages.map(|event| text(&event["content"]["body"]).to_owned()).collect()
}
