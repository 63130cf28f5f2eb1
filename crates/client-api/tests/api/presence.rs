//! Presence.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Site, User, filter};

async fn set(user: &User<'_>, presence: &str, message: Option<&str>) -> Answer {
    let body = json!({ "presence": presence, "status_msg": message });
    user.put(&format!("v3/presence/{}/status", user.id), body).await
}

async fn get(user: &User<'_>, of: &User<'_>) -> Answer {
    user.get(&format!("v3/presence/{}/status", of.id)).await
}

/// What a sync tells of a user; null if nothing.
fn told<'a>(sync: &'a Value, user: &User<'_>) -> &'a Value {
    let events = sync["presence"]["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut of_user = events.iter().filter(|event| event["sender"] == user.id.as_str());
    let event = of_user.next().unwrap_or(&Value::Null);
    assert!(of_user.next().is_none(), "told twice: {sync}");
    &event["content"]
}

#[tokio::test]
async fn presence_is_set_read_and_told_to_those_who_share_a_room() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    assert_eq!(get(&alice, &alice).await.ok(), json!({ "presence": "offline" }));
    let (b, c) = (bob.sync(None).await, carol.sync(None).await);
    set(&alice, "online", Some("Testing")).await.ok();
    let now = json!({
        "presence": "online", "status_msg": "Testing", "last_active_ago": 0, "currently_active": true,
    });
    assert_eq!(get(&bob, &alice).await.ok(), now);
    let news = bob.sync(Some(&b["next_batch"])).await;
    assert_eq!(told(&news, &alice), &now);
    assert!(bob.sync(Some(&news["next_batch"])).await["presence"].is_null());
    assert_eq!(told(&carol.sync(Some(&c["next_batch"])).await, &alice), &Value::Null);
    get(&carol, &alice).await.refused(403, "M_FORBIDDEN");
    carol.get("v3/presence/@nobody:hs.test/status").await.refused(403, "M_FORBIDDEN");
    set(&alice, "unavailable", None).await.ok();
    let idle = bob.sync(Some(&news["next_batch"])).await;
    assert_eq!(told(&idle, &alice), &json!({ "presence": "unavailable", "last_active_ago": 0 }));
    assert_eq!(told(&bob.sync(None).await, &alice)["presence"], "unavailable");
    let not_hers = filter(&json!({ "presence": { "not_senders": [alice.id] } }));
    assert_eq!(told(&bob.sync_with(&not_hers).await, &alice), &Value::Null);
    set(&alice, "offline", None).await.ok();
    assert_eq!(told(&bob.sync(Some(&idle["next_batch"])).await, &alice)["presence"], "offline");
    assert_eq!(told(&bob.sync(None).await, &alice), &Value::Null);
}

#[tokio::test]
async fn a_sync_makes_present_as_it_asks() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    alice.sync_with("set_presence=offline").await;
    assert_eq!(get(&bob, &alice).await.ok()["presence"], "offline");
    alice.sync_with("set_presence=unavailable").await;
    assert_eq!(get(&bob, &alice).await.ok()["presence"], "unavailable");
    alice.sync_with("timeout=0").await;
    assert_eq!(get(&bob, &alice).await.ok()["presence"], "unavailable", "one who said so stays idle");
    alice.sync_with("set_presence=online").await;
    assert_eq!(get(&bob, &alice).await.ok()["presence"], "online");
    let since = bob.sync(None).await;
    site.parts.clock.advance(Duration::from_secs(31));
    site.parts.rooms.run_due().await;
    assert_eq!(told(&bob.sync(Some(&since["next_batch"])).await, &alice)["presence"], "offline");
    alice.get("v3/sync?set_presence=asleep").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn what_one_does_makes_active() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    alice.sync_with("set_presence=unavailable").await;
    alice.say(&room, "1", "hello").await;
    assert_eq!(get(&bob, &alice).await.ok()["presence"], "online");
}

#[tokio::test]
async fn those_who_meet_hear_of_each_other() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let (a, b) = (alice.sync(None).await, bob.sync(None).await);
    set(&alice, "online", Some("here")).await.ok();
    let b = bob.sync(Some(&b["next_batch"])).await;
    assert_eq!(told(&b, &alice), &Value::Null);
    bob.join(&room).await.ok();
    assert_eq!(told(&bob.sync(Some(&b["next_batch"])).await, &alice)["status_msg"], "here");
    assert_eq!(told(&alice.sync(Some(&a["next_batch"])).await, &bob)["presence"], "online");
}

#[tokio::test]
async fn a_presence_wakes_those_who_wait() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let query = format!("since={since}&timeout=30000");
    let (sync, ()) = tokio::join!(bob.sync_with(&query), async {
        tokio::task::yield_now().await;
        set(&alice, "online", None).await.ok();
        site.parts.rooms.run_due().await;
    });
    assert_eq!(told(&sync, &alice)["presence"], "online");
}

#[tokio::test]
async fn bad_presence_is_refused() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    set(&alice, "asleep", None).await.refused(400, "M_INVALID_PARAM");
    set(&alice, "online", Some(&"x".repeat(1_025))).await.refused(400, "M_INVALID_PARAM");
    let path = format!("v3/presence/{}/status", bob.id);
    alice.put(&path, json!({ "presence": "online" })).await.refused(403, "M_FORBIDDEN");
    let path = format!("v3/presence/{}/status", alice.id);
    alice.put(&path, json!({})).await.refused(400, "M_MISSING_PARAM");
    alice.put(&path, json!({ "presence": 7 })).await.refused(400, "M_BAD_JSON");
    assert_eq!(get(&alice, &alice).await.ok(), json!({ "presence": "offline" }));
}
