//! Rates: what is too much is refused, with the time at which it no longer is.

use std::time::Duration;

use http::Method;
use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use serde_json::{Value, json};
use storage::Storage;
use testkit::{Parts, server_name};
use users::RegistrationMode;

use crate::support::{Answer, Site, User, bodies};

/// A server with the rates that are the default.
async fn strict() -> Site {
    strict_with(users::Options::new(server_name())).await
}

async fn strict_with(mut options: users::Options) -> Site {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let shared: SharedClock = clock.clone();
    options.registration = RegistrationMode::Open;
    options.password_hash.memory_kib = 8;
    options.password_hash.iterations = 1;
    Site::of(Parts::with(Storage::memory(&shared, &Random::seeded(1)), clock, options).await)
}

/// Asserts that a request was too much; for how long one must wait.
#[track_caller]
fn wait_after(answer: &Answer) -> Duration {
    assert_eq!((answer.status.as_u16(), &answer.body["errcode"]), (429, &json!("M_LIMIT_EXCEEDED")), "{}", answer.body);
    let millis = answer.body["retry_after_ms"].as_u64().expect("a number");
    let seconds: u64 = answer.headers["retry-after"].to_str().expect("text").parse().expect("a number");
    assert_eq!(seconds, millis.div_ceil(1_000).max(1));
    Duration::from_millis(millis)
}

/// Repeats a request until it is too much; how often it was answered.
async fn until_too_much<F: Future<Output = Answer>>(ask: impl Fn(usize) -> F) -> (usize, Answer) {
    for count in 0..200 {
        let answer = ask(count).await;
        if answer.status == 429 {
            return (count, answer);
        }
    }
    panic!("it never was too much");
}

#[tokio::test]
async fn messages_have_a_rate_and_a_repetition_costs_nothing() {
    let site = strict().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let send = |count: usize| {
        let (alice, path) = (alice.clone(), format!("v3/rooms/{room}/send/m.room.message/{count}"));
        async move { alice.put(&path, json!({ "body": count.to_string() })).await }
    };
    let (sent, refused) = until_too_much(send).await;
    assert!(sent >= 40, "{sent}");
    let wait = wait_after(&refused);
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=100")).await.ok();
    assert_eq!(bodies(&page["chunk"]).len(), sent, "what is refused is not stored");
    send(0).await.ok();
    // A room is made of messages, too.
    wait_after(&alice.post("v3/createRoom", json!({})).await);
    alice.get(&format!("v3/rooms/{room}/state")).await.ok();
    site.parts.clock.advance(wait);
    send(1_000).await.ok();
}

#[tokio::test]
async fn wrong_passwords_have_a_rate() {
    let site = strict().await;
    site.user("alice").await;
    let log_in = |password: &'static str| {
        let body = json!({ "type": "m.login.password", "user": "alice", "password": password });
        let site = &site;
        async move { site.raw(Method::POST, "/_matrix/client/v3/login", None, body.to_string()).await }
    };
    let (tried, refused) = until_too_much(|_| log_in("wrong")).await;
    assert!((1..=10).contains(&tried), "{tried}");
    let wait = wait_after(&refused);
    wait_after(&log_in("secret word").await);
    site.parts.clock.advance(wait * 2);
    let after = log_in("secret word").await;
    if after.status == 429 {
        site.parts.clock.advance(wait_after(&after));
        log_in("secret word").await.ok();
    }
}

#[tokio::test]
async fn registrations_of_one_address_have_a_rate() {
    let site = strict().await;
    let register = |count: usize| {
        let body = json!({ "username": format!("u{count}"), "password": "x", "auth": { "type": "m.login.dummy" } });
        let site = &site;
        async move { site.raw(Method::POST, "/_matrix/client/v3/register", None, body.to_string()).await }
    };
    let (made, refused) = until_too_much(register).await;
    assert_eq!(made, 3);
    site.parts.clock.advance(wait_after(&refused));
    let made = register(100).await.ok();
    assert_eq!(User::from(&site, &made).get("v3/account/whoami").await.ok()["is_guest"], Value::Bool(false));
}

#[tokio::test]
async fn joins_have_a_rate() {
    let site = strict().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let join = |_| {
        let (bob, room) = (bob.clone(), room.clone());
        async move {
            let answer = bob.join(&room).await;
            if answer.status == 200 {
                bob.leave(&room).await;
            }
            answer
        }
    };
    let (joined, refused) = until_too_much(join).await;
    assert_eq!(joined, 10);
    site.parts.clock.advance(wait_after(&refused));
    bob.join(&room).await.ok();
}

#[tokio::test]
async fn a_marker_for_which_there_is_no_place_is_refused_with_all_that_came_with_it() {
    let mut options = users::Options::new(server_name());
    options.account_data_sizes.max_types = 1;
    let site = strict_with(options).await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "1", "read").await;
    alice.put(&format!("v3/user/{}/rooms/{room}/account_data/a", alice.id), json!({ "x": 1 })).await.ok();
    let markers = format!("v3/rooms/{room}/read_markers");
    let both = json!({ "m.fully_read": event, "m.read": event });
    alice.post(&markers, both).await.refused(400, "M_RESOURCE_LIMIT_EXCEEDED");
    let ephemeral = async || alice.sync(None).await["rooms"]["join"][&room]["ephemeral"].clone();
    assert!(!ephemeral().await.to_string().contains("m.receipt"));
    alice.post(&markers, json!({ "m.read": event })).await.ok();
    assert!(ephemeral().await.to_string().contains("m.receipt"));
}
