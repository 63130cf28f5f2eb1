//! Transaction ids: of a device, a path and a room; shown to the device that sent.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Site, User};

async fn log_in(site: &Site, body: Value) -> Value {
    let mut wish = json!({ "type": "m.login.password", "user": "alice", "password": "secret word" });
    wish.as_object_mut().expect("an object").extend(body.as_object().expect("an object").clone());
    site.raw(Method::POST, "/_matrix/client/v3/login", None, wish.to_string()).await.ok()
}

fn in_timeline<'a>(sync: &'a Value, room: &str, event: &str) -> &'a Value {
    let events = sync["rooms"]["join"][room]["timeline"]["events"].as_array().expect("events");
    events.iter().find(|shown| shown["event_id"] == event).expect("the event is in the timeline")
}

#[tokio::test]
async fn a_transaction_is_of_one_room_and_not_of_its_content() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let (one, other) = (alice.room(json!({})).await, alice.room(json!({})).await);
    let first = alice.say(&one, "abc", "first").await;
    assert_eq!(alice.say(&one, "abc", "first").await, first);
    assert_eq!(alice.say(&one, "abc", "second").await, first);
    assert_ne!(alice.say(&other, "abc", "first").await, first);
    let elsewhere = alice.put(&format!("v3/rooms/{one}/send/test.type/abc"), json!({})).await.ok();
    assert_ne!(elsewhere["event_id"], first.as_str());
}

#[tokio::test]
async fn a_transaction_belongs_to_the_device_whatever_its_token() {
    let site = Site::new().await;
    site.user("alice").await;
    let session = log_in(&site, json!({ "refresh_token": true })).await;
    let alice = User::from(&site, &session);
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "abcdef", "first").await;
    assert_eq!(in_timeline(&alice.sync(None).await, &room, &event)["unsigned"]["transaction_id"], "abcdef");
    let refresh = json!({ "refresh_token": session["refresh_token"] }).to_string();
    let renewed = site.raw(Method::POST, "/_matrix/client/v3/refresh", None, refresh).await.ok();
    let token = renewed["access_token"].as_str().expect("a token").to_owned();
    let refreshed = User { token, ..alice.clone() };
    assert_eq!(in_timeline(&refreshed.sync(None).await, &room, &event)["unsigned"]["transaction_id"], "abcdef");
    assert_eq!(refreshed.say(&room, "abcdef", "first").await, event);
    let again = User::from(&site, &log_in(&site, json!({ "device_id": alice.device })).await);
    assert_eq!(again.device, alice.device);
    assert_eq!(in_timeline(&again.sync(None).await, &room, &event)["unsigned"]["transaction_id"], "abcdef");
    assert_eq!(again.say(&room, "abcdef", "first").await, event);
    alice.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    let other = User::from(&site, &log_in(&site, json!({})).await);
    assert!(in_timeline(&other.sync(None).await, &room, &event)["unsigned"].get("transaction_id").is_none());
    assert_ne!(other.say(&room, "abcdef", "first").await, event);
}

#[tokio::test]
async fn a_redaction_repeated_is_one_redaction() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "1", "hello").await;
    let path = format!("v3/rooms/{room}/redact/{event}/1");
    let first = alice.put(&path, json!({})).await.ok();
    assert_eq!(alice.put(&path, json!({ "reason": "other" })).await.ok(), first);
}

#[tokio::test]
async fn unsigned_says_how_old_an_event_is_and_what_it_replaced() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat", "name": "old" })).await;
    bob.join(&room).await.ok();
    let set = alice.set_state(&room, "m.room.name", json!({ "name": "new" })).await.ok();
    let id = set["event_id"].as_str().expect("an id");
    site.parts.clock.advance(std::time::Duration::from_secs(5));
    let read = bob.get(&format!("v3/rooms/{room}/event/{id}")).await.ok();
    let unsigned = &read["unsigned"];
    assert_eq!((&unsigned["age"], &unsigned["prev_content"]), (&json!(5_000), &json!({ "name": "old" })));
    assert!(unsigned["replaces_state"].is_string() && unsigned["membership"] == "join", "{unsigned}");
    assert!(unsigned.get("transaction_id").is_none());
    let sync = bob.sync(None).await;
    assert_eq!(in_timeline(&sync, &room, id)["unsigned"]["prev_content"], json!({ "name": "old" }));
    assert!(in_timeline(&sync, &room, id).get("room_id").is_none());
}

#[tokio::test]
async fn what_a_client_puts_into_unsigned_is_content_and_nothing_else() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let content = json!({ "body": "x", "unsigned": { "transaction_id": "forged" }, "signatures": {} });
    let sent = alice.put(&format!("v3/rooms/{room}/send/m.room.message/real"), content.clone()).await.ok();
    let id = sent["event_id"].as_str().expect("an id");
    let read = alice.get(&format!("v3/rooms/{room}/event/{id}")).await.ok();
    assert_eq!((&read["content"], &read["unsigned"]["transaction_id"]), (&content, &json!("real")));
    assert!(read.get("signatures").is_none() && read.get("hashes").is_none() && read.get("auth_events").is_none());
}
