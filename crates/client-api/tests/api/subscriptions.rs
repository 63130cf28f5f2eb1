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

async fn changes(user: &User<'_>, parameters: &str) -> Answer {
    user.get(&format!("unstable/io.element.msc4308/thread_subscriptions?{parameters}")).await
}

/// The threads in the answer, of all rooms: those that are followed, and those that are not.
fn threads(answer: &serde_json::Value) -> [Vec<String>; 2] {
    let of = |kind: &str| {
        let rooms = answer[kind].as_object().expect("rooms");
        rooms.values().flat_map(|room| room.as_object().expect("threads").keys().cloned()).collect()
    };
    [of("subscribed"), of("unsubscribed")]
}

#[tokio::test]
async fn changes_are_read_in_pages_newest_first_and_each_thread_once() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, other) = (alice.room(json!({})).await, alice.room(json!({})).await);
    let first = alice.say(&room, "1", "first").await;
    let second = alice.say(&other, "2", "second").await;
    let third = alice.say(&room, "3", "third").await;
    let reply = reply(&alice, &room, &third, "4").await;
    for (room, root, cause) in [(&room, &first, None), (&other, &second, None), (&room, &third, Some(&*reply))] {
        subscribe(&alice, room, root, cause).await.ok();
    }
    let since = alice.get("v3/sync").await.ok()["next_batch"].as_str().expect("a token").to_owned();
    alice.delete(&path(&room, &first), json!({})).await.ok();

    let newest = changes(&alice, "dir=b&limit=1").await.ok();
    assert_eq!(threads(&newest), [vec![], vec![first.clone()]]);
    let stamp = |answer: &serde_json::Value, kind: &str, room: &str, root: &str| {
        answer[kind][room][root]["bump_stamp"].as_u64()
    };
    let unsubscribed_at = stamp(&newest, "unsubscribed", &room, &first).expect("a number");
    let end = newest["end"].as_str().expect("there is more");
    let second_page = changes(&alice, &format!("dir=b&limit=1&from={end}")).await.ok();
    assert_eq!(threads(&second_page), [vec![third.clone()], vec![]]);
    assert_eq!(second_page["subscribed"][&room][&third]["automatic"], true);
    assert!(stamp(&second_page, "subscribed", &room, &third).expect("a number") < unsubscribed_at);
    let end = second_page["end"].as_str().expect("there is more");
    let last = changes(&alice, &format!("dir=b&from={end}")).await.ok();
    assert_eq!(threads(&last), [vec![second.clone()], vec![]]);
    assert_eq!(last["subscribed"][&other][&second]["automatic"], false);
    assert!(last["end"].is_null());

    let new = changes(&alice, &format!("dir=b&to={since}")).await.ok();
    assert_eq!((threads(&new), new["end"].is_null()), ([vec![], vec![first.clone()]], true));
    subscribe(&alice, &room, &first, None).await.ok();
    let again = changes(&alice, "dir=b&limit=1").await.ok();
    assert_eq!(threads(&again), [vec![first.clone()], vec![]]);
    assert!(stamp(&again, "subscribed", &room, &first).expect("a number") > unsubscribed_at);
    assert_eq!(threads(&changes(&bob, "dir=b").await.ok()), [Vec::<String>::new(), vec![]]);
}

#[tokio::test]
async fn changes_are_refused_in_other_directions_and_from_other_tokens() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    changes(&alice, "").await.refused(400, "M_MISSING_PARAM");
    for bad in ["dir=f", "dir=b&limit=0", "dir=b&limit=-1", "dir=b&from=t_1", "dir=b&to=", "dir=b&from=f"] {
        changes(&alice, bad).await.refused(400, "M_INVALID_PARAM");
    }
}
