//! Accounts that are suspended or locked (client-server API, "Account suspension", "Account locking").

use ::users::Administration;
use http::Method;
use serde_json::json;

use crate::support::{Site, User};

async fn administer(user: &User<'_>, change: Administration) {
    let users = &user.site.parts.users;
    let id = user.id.as_str().try_into().expect("a user id");
    let nid = users.nid(id).await.expect("readable").expect("registered");
    assert!(users.administer(nid, change).await.expect("written"));
}

#[tokio::test]
async fn a_suspended_user_writes_nothing_and_makes_no_rooms() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let levels = json!({ "preset": "public_chat", "room_version": "11", "power_level_content_override": {
        "users": { alice.id.clone(): 100, bob.id.clone(): 50 } } });
    let (room, other) = (alice.room(levels).await, alice.room(json!({ "preset": "public_chat" })).await);
    bob.join(&room).await.ok();
    let event = alice.say(&room, "1", "hello").await;
    let invited = alice.room(json!({ "invite": [bob.id] })).await;
    administer(&bob, Administration::Suspended(true)).await;
    let target = json!({ "user_id": alice.id });
    let delayed = "v3/rooms/{room}/send/m.room.message/2?org.matrix.msc4140.delay=1000".replace("{room}", &room);
    for (method, path, body) in [
        (Method::PUT, format!("v3/rooms/{room}/send/m.room.message/1"), json!({ "body": "x" })),
        (Method::PUT, format!("v3/rooms/{room}/state/m.room.topic/"), json!({ "topic": "x" })),
        (Method::PUT, format!("v3/rooms/{room}/redact/{event}/1"), json!({})),
        (Method::PUT, format!("v3/rooms/{room}/send/m.room.redaction/3"), json!({ "redacts": event })),
        (Method::PUT, delayed, json!({ "body": "x" })),
        (Method::POST, format!("v3/rooms/{room}/invite"), json!({ "user_id": "@carol:hs.test" })),
        (Method::POST, format!("v3/rooms/{room}/kick"), target.clone()),
        (Method::POST, format!("v3/rooms/{room}/ban"), target),
        (Method::POST, format!("v3/join/{other}"), json!({})),
        (Method::POST, format!("v3/join/{invited}"), json!({})),
        (Method::POST, format!("v3/knock/{other}"), json!({})),
        (Method::POST, "v3/createRoom".to_owned(), json!({})),
        (Method::PUT, format!("v3/profile/{}/displayname", bob.id), json!({ "displayname": "x" })),
        (Method::DELETE, format!("v3/profile/{}/displayname", bob.id), json!({})),
    ] {
        bob.call(method, &path, body).await.refused(403, "M_USER_SUSPENDED");
    }
}

#[tokio::test]
async fn a_suspended_user_reads_leaves_redacts_what_is_theirs_and_logs_out() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let invited = alice.room(json!({ "invite": [bob.id] })).await;
    bob.join(&room).await.ok();
    let (one, two) = (bob.say(&room, "1", "hello").await, bob.say(&room, "2", "hello").await);
    administer(&bob, Administration::Suspended(true)).await;
    bob.put(&format!("v3/rooms/{room}/redact/{one}/3"), json!({})).await.ok();
    bob.put(&format!("v3/rooms/{room}/send/m.room.redaction/4"), json!({ "redacts": two })).await.ok();
    bob.sync(None).await;
    bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok();
    bob.leave(&room).await;
    bob.leave(&invited).await;
    let again = bob.log_in().await;
    again.join(&room).await.refused(403, "M_USER_SUSPENDED");
    administer(&bob, Administration::Suspended(false)).await;
    again.join(&room).await.ok();
    bob.post("v3/logout", json!({})).await.ok();
}

#[tokio::test]
async fn a_locked_user_can_only_log_out() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let phone = alice.log_in().await;
    administer(&alice, Administration::Locked(true)).await;
    for path in ["v3/account/whoami", "v3/sync", "v3/devices"] {
        let refused = alice.get(path).await.refused(401, "M_USER_LOCKED");
        assert_eq!(refused["soft_logout"], true);
    }
    phone.post("v3/logout", json!({})).await.ok();
    administer(&alice, Administration::Locked(false)).await;
    alice.get("v3/account/whoami").await.ok();
    phone.get("v3/account/whoami").await.refused(401, "M_UNKNOWN_TOKEN");
    administer(&alice, Administration::Locked(true)).await;
    alice.post("v3/logout/all", json!({})).await.ok();
}
