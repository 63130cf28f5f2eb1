//! Delayed events over HTTP, through every door. Numbers are those of the list of edge cases; what no door can show is tested in the engine.

#[path = "delayed/futures.rs"]
mod futures;
#[path = "delayed/managing.rs"]
mod managing;
#[path = "delayed/reading.rs"]
mod reading;
#[path = "delayed/scheduling.rs"]
mod scheduling;
#[path = "delayed/sending.rs"]
mod sending;

use std::time::Duration;

use delayed_events::{DelayedEvents, Options};
use http::Method;
use primitives::Random;
use serde_json::{Value, json};
use testkit::Parts;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{Answer, Site, User};

/// Where the unstable paths begin.
const UNSTABLE: &str = "unstable/org.matrix.msc4140";
/// The query parameter of the delay.
const DELAY: &str = "org.matrix.msc4140.delay";

/// A site that sends what is due.
struct Rig {
    site: Site,
    tasks: TaskTracker,
}

impl Rig {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let mut parts = Parts::new().await;
        let (storage, users, rooms) = (parts.storage.clone(), parts.users.clone(), parts.rooms.clone());
        let opened = DelayedEvents::open(storage, users, rooms, parts.clock.clone(), Random::seeded(9), options);
        parts.delayed = opened.await.expect("delayed events open");
        let (delayed, tasks) = (parts.delayed.clone(), TaskTracker::new());
        tasks.spawn(async move { delayed.run(CancellationToken::new()).await });
        Self { site: Site::of(parts), tasks }
    }

    /// Lets time pass until nothing is due any more.
    async fn pass(&self, millis: u64) {
        self.site.parts.clock.advance(Duration::from_millis(millis));
        let mut quiet = 0;
        let mut before = self.site.parts.delayed.pending();
        // The loop hears of the time at once; what it sends takes a commit or two.
        while quiet < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let now = self.site.parts.delayed.pending();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
        assert!(!self.tasks.is_empty(), "the loop has ended");
    }

    /// A user in a new room in which everybody may do everything.
    async fn alice(&self) -> (User<'_>, String) {
        let alice = self.site.user("alice").await;
        let levels = json!({ "events_default": 0, "state_default": 0 });
        let room = alice.room(json!({ "preset": "public_chat", "power_level_content_override": levels })).await;
        (alice, room)
    }
}

/// Schedules a message by query parameter.
async fn delay_message(who: &User<'_>, room: &str, txn: &str, delay: &str, body: Value) -> Answer {
    who.put(&format!("v3/rooms/{room}/send/m.room.message/{txn}?{DELAY}={delay}"), body).await
}

/// Schedules a state event by query parameter.
async fn delay_state(who: &User<'_>, room: &str, key: &str, delay: &str, body: Value) -> Answer {
    who.put(&format!("v3/rooms/{room}/state/com.example.call/{key}?{DELAY}={delay}"), body).await
}

fn id(answer: &Value) -> String {
    answer["delay_id"].as_str().expect("a delay id").to_owned()
}

/// A message that is due in so many milliseconds; its delay id.
async fn message(who: &User<'_>, room: &str, txn: &str, delay: u64) -> String {
    let answer = delay_message(who, room, txn, &delay.to_string(), json!({ "msgtype": "m.text", "body": txn })).await;
    id(&answer.ok())
}

/// One of the actions on the unstable path, with or without a token.
async fn act(site: &Site, who: Option<&User<'_>>, id: &str, action: &str) -> Answer {
    let path = format!("/_matrix/client/{UNSTABLE}/delayed_events/{id}/{action}");
    site.raw(Method::POST, &path, who.map(|who| &*who.token), "{}").await
}

/// The same on the stable path.
async fn act_stable(who: &User<'_>, id: &str, action: &str) -> Answer {
    who.post(&format!("v1/delayed_events/{id}/{action}"), json!({})).await
}

/// The scheduled events of a user.
async fn scheduled(who: &User<'_>) -> Vec<Value> {
    let list = who.get(&format!("{UNSTABLE}/delayed_events")).await.ok();
    list["delayed_events"].as_array().expect("a list").clone()
}

/// The bodies of a room's messages, oldest first.
async fn timeline(who: &User<'_>, room: &str) -> Vec<String> {
    let page = who.get(&format!("v3/rooms/{room}/messages?dir=f&limit=1000")).await.ok();
    let chunk = page["chunk"].as_array().expect("a chunk");
    chunk.iter().filter_map(|event| Some(event["content"]["body"].as_str()?.to_owned())).collect()
}
