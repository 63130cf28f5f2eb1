//! Which threads a user follows (MSC4306).

use serde_json::json;

use crate::support::{Answer, Site, User};

async fn reply(user: &User<'_>, room: &str, root: &str, txn: &str) -> String {
    let content = json!({ "body": txn, "m.relates_to": { "rel_type": "m.thread", "event_id": root } });
    let answer = user.put(&format!("v3/rooms/{room}/send/m.room.message/{txn}"), content).await.ok();
    answer["event_id"].as_str().expect("an id").to_owned()
}

fn path(room: &str, root: &str) -> String {
    format!("unstable/io.element.msc4306/rooms/{room}/thread/{root}/subscription")
}

/// How the user follows a thread; `None`: not at all.
async fn automatic(user: &User<'_>, room: &str, root: &str) -> Option<bool> {
    let answer = user.get(&path(room, root)).await;
    if answer.status == 404 {
        answer.refused(404, "M_NOT_FOUND");
        return None;
    }
    answer.ok()["automatic"].as_bool()
}

async fn subscribe(user: &User<'_>, room: &str, root: &str, cause: Option<&str>) -> Answer {
    let body = cause.map_or(json!({}), |cause| json!({ "automatic": cause }));
    user.put(&path(room, root), body).await
}

#[tokio::test]
async fn a_thread_is_followed_by_wish_or_for_an_event_of_it() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({})).await;
    let root = alice.say(&room, "root", "root").await;
    assert_eq!(automatic(&alice, &room, &root).await, None);
    alice.delete(&path(&room, &root), json!({})).await.ok();
    let first = reply(&alice, &room, &root, "1").await;
    subscribe(&alice, &room, &root, Some(&first)).await.ok();
    assert_eq!(automatic(&alice, &room, &root).await, Some(true));
    subscribe(&alice, &room, &root, None).await.ok();
    assert_eq!(automatic(&alice, &room, &root).await, Some(false));
    subscribe(&alice, &room, &root, Some(&first)).await.ok();
    assert_eq!(automatic(&alice, &room, &root).await, Some(false), "the user's wish stands");
    let second = reply(&alice, &room, &root, "2").await;
    for _ in 0..2 {
        alice.delete(&path(&room, &root), json!({})).await.ok();
        assert_eq!(automatic(&alice, &room, &root).await, None);
    }
    let third = reply(&alice, &room, &root, "3").await;
    for old in [&first, &second] {
        let refused = subscribe(&alice, &room, &root, Some(old)).await;
        refused.refused(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION");
        assert_eq!(automatic(&alice, &room, &root).await, None);
    }
    subscribe(&alice, &room, &root, Some(&third)).await.ok();
    assert_eq!(automatic(&alice, &room, &root).await, Some(true));
    assert_eq!(automatic(&bob, &room, &root).await, None);
}

#[tokio::test]
async fn only_threads_that_the_user_sees_are_followed() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, other) = (alice.room(json!({})).await, alice.room(json!({})).await);
    let (root, elsewhere) = (alice.say(&room, "1", "root").await, alice.say(&room, "2", "another").await);
    let inside = reply(&alice, &room, &root, "3").await;
    let outside = reply(&alice, &room, &elsewhere, "4").await;
    for cause in [&*root, &*outside, "$none"] {
        subscribe(&alice, &room, &root, Some(cause)).await.refused(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD");
    }
    subscribe(&alice, &room, &root, Some("nonsense")).await.refused(400, "M_INVALID_PARAM");
    alice.put(&path(&room, &root), json!({ "automatic": true })).await.refused(400, "M_BAD_JSON");
    for (room, root) in [(&room, "$none"), (&other, &*root), (&room, &*inside)] {
        subscribe(&alice, room, root, None).await.refused(404, "M_NOT_FOUND");
        alice.delete(&path(room, root), json!({})).await.refused(404, "M_NOT_FOUND");
        alice.get(&path(room, root)).await.refused(404, "M_NOT_FOUND");
    }
    subscribe(&bob, &room, &root, None).await.refused(404, "M_NOT_FOUND");
    assert_eq!(automatic(&alice, &room, &root).await, None, "nothing is stored");
}
