//! What goes out to other servers, with whole servers or with scripted ones at the other end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use federation_client::FakeServers;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use ruma::{OwnedServerName, server_name};
use serde_json::{Value, json};
use testkit::world::{Server, World};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::far::Far;

/// A dispatcher at work.
pub(crate) struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    pub(crate) fn of(server: &Server) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (dispatcher, stopped) = (server.dispatcher.clone(), stop.clone());
        tasks.spawn(async move { dispatcher.run(stopped).await });
        Self { tasks, stop }
    }

    /// Lets it finish what it is at.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A server that writes down the transactions that it gets, and answers as it is told.
#[derive(Clone, Default)]
struct Listener {
    /// Transaction id and body.
    got: Arc<Mutex<Vec<(String, Value)>>>,
    /// Statuses of the next answers; then 200.
    answers: Arc<Mutex<Vec<StatusCode>>>,
    /// An event with such a body is refused with 400.
    poison: Arc<Mutex<Option<String>>>,
}

impl Listener {
    fn listen(servers: &FakeServers, name: OwnedServerName) -> Self {
        let listener = Self::default();
        let heard = listener.clone();
        servers.serve(name, move |request: Request<Bytes>| {
            let answer = heard.answer(&request);
            async move { answer }
        });
        listener
    }

    fn answer(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let path = request.uri().path().to_owned();
        let Some(id) = path.strip_prefix("/_matrix/federation/v1/send/") else {
            return response(StatusCode::NOT_FOUND);
        };
        let body: Value = serde_json::from_slice(request.body()).expect("JSON");
        let poisoned = self.poison.lock().as_ref().is_some_and(|poison| body.to_string().contains(poison));
        self.got.lock().push((id.to_owned(), body));
        let scripted = self.answers.lock().pop();
        response(scripted.unwrap_or(if poisoned { StatusCode::BAD_REQUEST } else { StatusCode::OK }))
    }

    /// The bodies of all messages that arrived in accepted transactions, in order.
    fn said(&self) -> Vec<String> {
        let got = self.got.lock();
        let pdus = got.iter().flat_map(|(_, body)| body["pdus"].as_array().cloned().unwrap_or_default());
        pdus.filter_map(|pdu| pdu["content"]["body"].as_str().map(ToOwned::to_owned)).collect()
    }
}

fn response(status: StatusCode) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from_static(b"{\"pdus\":{}}")).expect("a response")
}

/// Waits, in real time, until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

/// Lets everything that can happen now happen.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn events_reach_the_servers_of_a_room_once_and_in_order() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    let running = Running::of(&here);
    let said: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    for body in &said {
        far.say(body).await;
    }
    until("all have arrived", || listener.said().len() >= said.len()).await;
    settle().await;
    assert_eq!(listener.said(), said, "nothing of before the join, everything since once and in order");
    for (_, body) in listener.got.lock().iter() {
        assert_eq!(body["origin"], json!("hs.test"));
        assert!(body["pdus"].as_array().expect("a list").len() <= 50);
    }
    running.end().await;
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_and_gets_the_same_transaction_again() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    listener.answers.lock().push(StatusCode::BAD_GATEWAY);
    let running = Running::of(&here);
    far.say("1").await;
    until("tried", || listener.got.lock().len() == 1).await;
    far.say("2").await;
    settle().await;
    assert_eq!(listener.got.lock().len(), 1, "left alone");
    world.clock.advance(Duration::from_secs(80));
    until("tried again", || listener.said().len() == 3).await;
    let got = listener.got.lock().clone();
    assert_eq!(got[0], got[1], "the same id and the same content");
    assert_ne!(got[1].0, got[2].0);
    assert_eq!(listener.said(), ["1", "1", "2"]);
    running.end().await;
}

#[tokio::test]
async fn what_another_server_asks_ends_its_pause() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    listener.answers.lock().push(StatusCode::INTERNAL_SERVER_ERROR);
    let running = Running::of(&here);
    far.say("1").await;
    until("tried", || listener.got.lock().len() == 1).await;
    settle().await;
    here.client.heard_from(&there.name);
    until("tried again", || listener.got.lock().len() == 2).await;
    running.end().await;
}

#[tokio::test]
async fn a_restart_loses_nothing_and_ends_no_pause() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let running = Running::of(&here);
    let listener = Listener::listen(&world.servers, there.name.clone());
    far.say("1").await;
    until("arrived", || listener.said() == ["1"]).await;
    world.servers.remove(&there.name);
    far.say("2").await;
    settle().await;
    let pause = here.client.pause(&there.name).expect("it failed");
    running.end().await;
    far.say("3").await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    let again = world.server_on(here.parts.storage.clone(), "hs.test", 1, Vec::new()).await;
    let running = Running::of(&again);
    settle().await;
    assert!(listener.got.lock().is_empty(), "still left alone");
    world.clock.advance(pause.left);
    until("the newest arrives", || listener.said() == ["3"]).await;
    running.end().await;
}

#[tokio::test]
async fn a_kill_before_anything_was_written_loses_nothing() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let bob = far.bob.clone();
    far.say("1").await;
    far.set("m.room.member", bob.as_str(), json!({ "membership": "leave" })).await;
    far.say("2").await;
    // Nobody has dispatched anything: as if killed right after the commits.
    let listener = Listener::listen(&world.servers, there.name.clone());
    let again = world.server_on(here.parts.storage.clone(), "hs.test", 1, Vec::new()).await;
    let running = Running::of(&again);
    until("arrived", || !listener.got.lock().is_empty()).await;
    settle().await;
    assert_eq!(listener.said(), ["1"], "what came after the kick is not for it");
    let got = listener.got.lock().clone();
    let kick = got.iter().flat_map(|(_, body)| body["pdus"].as_array().expect("a list").clone()).next_back();
    assert_eq!(kick.expect("events")["content"]["membership"], json!("leave"));
    running.end().await;
    // What was acknowledged is not sent again.
    let once_more = world.server_on(here.parts.storage.clone(), "hs.test", 1, Vec::new()).await;
    let running = Running::of(&once_more);
    settle().await;
    assert_eq!(listener.got.lock().len(), got.len());
    running.end().await;
}

#[tokio::test]
async fn a_poisoned_event_holds_up_no_other() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    *listener.poison.lock() = Some("POISON".to_owned());
    for number in 0..20 {
        far.say(if number == 7 { "POISON" } else { "good" }).await;
    }
    let running = Running::of(&here);
    let accepted = || {
        let got = listener.got.lock();
        let good = got.iter().filter(|(_, body)| !body.to_string().contains("POISON"));
        good.map(|(_, body)| body["pdus"].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    until("the good ones have arrived", || accepted() == 19).await;
    settle().await;
    assert_eq!(accepted(), 19, "each once");
    assert!(here.client.pause(&there.name).is_none());
    running.end().await;
}

#[tokio::test]
async fn a_long_outage_is_healed_with_the_newest_event_of_each_room() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut one = Far::joined(&here, &there, "11", "shared").await;
    let mut two = Far::joined(&here, &there, "11", "shared").await;
    world.servers.remove(&there.name);
    let running = Running::of(&here);
    for number in 0..600 {
        one.say(&format!("one {number}")).await;
    }
    two.say("two").await;
    for _ in 0..8 {
        settle().await;
        world.clock.advance(Duration::from_hours(2));
    }
    one.say("one at last").await;
    settle().await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    world.clock.advance(Duration::from_hours(2));
    until("it is told", || listener.said().len() == 2).await;
    let mut said = listener.said();
    said.sort();
    assert_eq!(said, ["one at last", "two"]);
    // From here on it gets everything again.
    one.say("three").await;
    one.say("four").await;
    until("it is told", || listener.said().len() == 4).await;
    assert_eq!(listener.said()[2..], ["three", "four"]);
    running.end().await;
}

#[tokio::test]
async fn a_room_tells_neither_whom_its_acl_denies_nor_itself() {
    let world = World::new();
    let (here, there) = (world.server("hs.test", 1).await, world.server("b.test", 2).await);
    let mut far = Far::joined(&here, &there, "11", "shared").await;
    let listener = Listener::listen(&world.servers, there.name.clone());
    let running = Running::of(&here);
    far.set("m.room.server_acl", "", json!({ "allow": ["*"], "deny": ["b.test"] })).await;
    far.say("secret").await;
    until("the ACL has arrived", || !listener.got.lock().is_empty()).await;
    settle().await;
    let got = listener.got.lock().clone();
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].1["pdus"][0]["type"], json!("m.room.server_acl"));
    let asked = world.servers.asked();
    assert!(asked.iter().all(|(name, _)| name != server_name!("hs.test")), "{asked:?}");
    running.end().await;
}
