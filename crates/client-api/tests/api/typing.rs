//! Typing notifications.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Site, User, filter, of_type};

async fn types(user: &User<'_>, room: &str, typing: bool, timeout: u64) -> Answer {
    let body = json!({ "typing": typing, "timeout": timeout });
    user.put(&format!("v3/rooms/{room}/typing/{}", user.id), body).await
}

/// Who types, as a sync tells; `None` if it tells nothing of it.
fn typists(sync: &Value, room: &str) -> Option<Value> {
    let events = &sync["rooms"]["join"][room]["ephemeral"]["events"];
    let told = events.as_array().is_some_and(|events| events.iter().any(|event| event["type"] == "m.typing"));
    told.then(|| {
        let event = of_type(events, "m.typing");
        assert!(event["room_id"].is_null());
        event["content"]["user_ids"].clone()
    })
}

#[tokio::test]
async fn typing_is_told_to_members_until_it_ends() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let (start, outside) = (bob.sync(None).await, carol.sync(None).await);
    types(&alice, &room, true, 10_000).await.ok();
    let typing = bob.sync(Some(&start["next_batch"])).await;
    assert_eq!(typists(&typing, &room), Some(json!([alice.id])));
    assert_eq!(typists(&bob.sync(None).await, &room), Some(json!([alice.id])));
    assert!(carol.sync(Some(&outside["next_batch"])).await["rooms"].is_null());
    types(&alice, &room, true, 10_000).await.ok();
    assert_eq!(typists(&bob.sync(Some(&typing["next_batch"])).await, &room), None);
    types(&alice, &room, false, 0).await.ok();
    let ended = bob.sync(Some(&typing["next_batch"])).await;
    assert_eq!(typists(&ended, &room), Some(json!([])));
    assert_eq!(typists(&bob.sync(Some(&start["next_batch"])).await, &room), Some(json!([])));
    assert_eq!(typists(&bob.sync(None).await, &room), None);
    types(&alice, &room, true, 5_000).await.ok();
    site.parts.clock.advance(Duration::from_secs(5));
    site.parts.rooms.run_due().await;
    assert_eq!(typists(&bob.sync(Some(&ended["next_batch"])).await, &room), Some(json!([])));
    let none = filter(&json!({ "room": { "ephemeral": { "types": ["m.receipt"] } } }));
    let since = start["next_batch"].as_str().expect("a token");
    assert_eq!(typists(&bob.sync_with(&format!("since={since}&{none}")).await, &room), None);
}

#[tokio::test]
async fn typing_wakes_those_who_wait() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let query = format!("since={since}&timeout=30000");
    let (sync, _) = tokio::join!(bob.sync_with(&query), async {
        tokio::task::yield_now().await;
        types(&alice, &room, true, 10_000).await.ok()
    });
    assert_eq!(typists(&sync, &room), Some(json!([alice.id])));
}

#[tokio::test]
async fn one_types_for_oneself_and_where_one_is() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    types(&bob, &room, true, 10_000).await.refused(403, "M_FORBIDDEN");
    let path = format!("v3/rooms/{room}/typing/{}", bob.id);
    alice.put(&path, json!({ "typing": true })).await.refused(403, "M_FORBIDDEN");
    let path = format!("v3/rooms/{room}/typing/{}", alice.id);
    alice.put(&path, json!({})).await.refused(400, "M_MISSING_PARAM");
    alice.put(&path, json!({ "typing": "yes" })).await.refused(400, "M_BAD_JSON");
    alice.put(&path, json!({ "typing": true, "timeout": -1 })).await.refused(400, "M_BAD_JSON");
    types(&alice, "!none:hs.test", true, 1).await.refused(404, "M_NOT_FOUND");
    alice.put(&path, json!({ "typing": true })).await.ok();
}
