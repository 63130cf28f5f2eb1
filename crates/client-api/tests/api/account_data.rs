//! Account data, tags and their place in sync.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Site, User, filter, of_type, types};

fn global(user: &User<'_>, data_type: &str) -> String {
    format!("v3/user/{}/account_data/{data_type}", user.id)
}

fn of_room(user: &User<'_>, room: &str, data_type: &str) -> String {
    format!("v3/user/{}/rooms/{room}/account_data/{data_type}", user.id)
}

/// The account data that a sync tells of a room.
fn told<'a>(sync: &'a Value, room: &str) -> &'a Value {
    &sync["rooms"]["join"][room]["account_data"]["events"]
}

#[tokio::test]
async fn data_is_read_back_and_told_to_every_device() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let phone = alice.log_in().await;
    let room = alice.room(json!({})).await;
    let before = phone.sync(None).await;
    let (one, two) = (json!({ "value": 0.5, "b": [null] }), json!({ "value": "two" }));
    alice.put(&global(&alice, "a.b"), one.clone()).await.ok();
    alice.put(&of_room(&alice, &room, "a.b"), two.clone()).await.ok();
    assert_eq!(phone.get(&global(&alice, "a.b")).await.ok(), one);
    assert_eq!(phone.get(&of_room(&alice, &room, "a.b")).await.ok(), two);
    let news = phone.sync(Some(&before["next_batch"])).await;
    assert_eq!(news["account_data"]["events"], json!([{ "type": "a.b", "content": one }]));
    assert_eq!(told(&news, &room), &json!([{ "type": "a.b", "content": two }]));
    assert_eq!(news["rooms"]["join"][&room]["timeline"]["events"], json!([]));
    assert_eq!(news["rooms"]["join"][&room]["timeline"]["limited"], false);
    assert!(phone.sync(Some(&news["next_batch"])).await["rooms"].is_null());
    let whole = phone.sync(None).await;
    assert_eq!(types(&whole["account_data"]["events"]), ["a.b", "m.push_rules"]);
    assert_eq!(told(&whole, &room), told(&news, &room));
    alice.get(&global(&alice, "none")).await.refused(404, "M_NOT_FOUND");
    alice.get(&of_room(&alice, &room, "none")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn deleted_data_is_empty_in_the_next_sync_and_in_no_first_one() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    assert_eq!(alice.get("versions").await.ok()["unstable_features"]["org.matrix.msc3391"], true);
    let unstable = |path: &str| path.replace("v3/", "unstable/org.matrix.msc3391/");
    for path in [global(&alice, "a.b"), of_room(&alice, &room, "a.b")] {
        for by_method in [true, false] {
            alice.put(&path, json!({ "x": 1 })).await.ok();
            let before = alice.sync(None).await;
            let answer = if by_method {
                alice.delete(&unstable(&path), Value::Null).await
            } else {
                alice.put(&path, json!({})).await
            };
            assert_eq!(answer.ok(), json!({}));
            alice.get(&path).await.refused(404, "M_NOT_FOUND");
            let news = alice.sync(Some(&before["next_batch"])).await;
            let events = if path.contains("rooms") { told(&news, &room) } else { &news["account_data"]["events"] };
            assert_eq!(events, &json!([{ "type": "a.b", "content": {} }]));
        }
    }
    let whole = alice.sync(None).await;
    assert_eq!(types(&whole["account_data"]["events"]), ["m.push_rules"]);
    assert_eq!(told(&whole, &room), &json!([]));
}

#[tokio::test]
async fn filters_choose_among_account_data() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    for data_type in ["a.x", "b.x"] {
        alice.put(&global(&alice, data_type), json!({ "x": 1 })).await.ok();
        alice.put(&of_room(&alice, &room, data_type), json!({ "x": 1 })).await.ok();
    }
    let only = json!({ "types": ["a.*"] });
    let wanted = filter(&json!({ "account_data": only, "room": { "account_data": only } }));
    let sync = alice.sync_with(&wanted).await;
    assert_eq!(types(&sync["account_data"]["events"]), ["a.x"]);
    assert_eq!(types(told(&sync, &room)), ["a.x"]);
    let elsewhere = filter(&json!({ "room": { "account_data": { "not_rooms": [room] } } }));
    assert_eq!(told(&alice.sync_with(&elsewhere).await, &room), &json!([]));
}

#[tokio::test]
async fn what_may_not_be_set_is_refused() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({})).await;
    for managed in ["m.fully_read", "m.push_rules"] {
        for path in [global(&alice, managed), of_room(&alice, &room, managed)] {
            alice.put(&path, json!({ "x": 1 })).await.refused(405, "M_BAD_JSON");
            let path = path.replace("v3/", "unstable/org.matrix.msc3391/");
            alice.delete(&path, Value::Null).await.refused(405, "M_BAD_JSON");
        }
    }
    assert!(alice.get(&global(&alice, "m.push_rules")).await.ok()["global"]["override"].is_array());
    for path in [global(&alice, "a"), of_room(&alice, &room, "a"), format!("v3/user/{}/rooms/{room}/tags/a", alice.id)]
    {
        bob.put(&path, json!({})).await.refused(403, "M_FORBIDDEN");
    }
    bob.get(&global(&alice, "a")).await.refused(403, "M_FORBIDDEN");
    alice.put(&global(&alice, "a"), json!([1])).await.refused(400, "M_BAD_JSON");
    alice.put(&global(&alice, "a"), json!({ "x": "y".repeat(65_536) })).await.refused(413, "M_TOO_LARGE");
    alice.put(&global(&alice, &"t".repeat(256)), json!({ "x": 1 })).await.refused(400, "M_INVALID_PARAM");
    alice.put(&of_room(&alice, "notaroom", "a"), json!({})).await.refused(400, "M_INVALID_PARAM");
    alice.put(&of_room(&alice, "!none:hs.test", "a"), json!({})).await.refused(404, "M_NOT_FOUND");
    let raw = format!("/_matrix/client/{}", global(&alice, "a"));
    site.raw(Method::PUT, &raw, Some(&alice.token), "{").await.refused(400, "M_NOT_JSON");
    alice.get(&global(&alice, "a")).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_room_that_is_joined_comes_with_its_data() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.put(&of_room(&bob, &room, "a"), json!({ "x": 1 })).await.ok();
    let before = bob.sync(None).await;
    bob.join(&room).await.ok();
    let joined = bob.sync(Some(&before["next_batch"])).await;
    assert_eq!(types(told(&joined, &room)), ["a"]);
    bob.put(&of_room(&bob, &room, "b"), json!({ "x": 1 })).await.ok();
    bob.leave(&room).await;
    let left = bob.sync(Some(&joined["next_batch"])).await;
    assert_eq!(types(&left["rooms"]["leave"][&room]["account_data"]["events"]), ["b"]);
}

#[tokio::test]
async fn tags_are_added_and_taken_away_one_by_one() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let tags = format!("v3/user/{}/rooms/{room}/tags", alice.id);
    assert_eq!(alice.get(&tags).await.ok(), json!({ "tags": {} }));
    let before = alice.sync(None).await;
    alice.put(&format!("{tags}/m.favourite"), json!({ "order": 0.25 })).await.ok();
    alice.put(&format!("{tags}/u.Work"), json!({})).await.ok();
    let both = json!({ "tags": { "m.favourite": { "order": 0.25 }, "u.Work": {} } });
    assert_eq!(alice.get(&tags).await.ok(), both);
    let news = alice.sync(Some(&before["next_batch"])).await;
    assert_eq!(told(&news, &room), &json!([{ "type": "m.tag", "content": both }]));
    alice.delete(&format!("{tags}/u.Work"), Value::Null).await.ok();
    alice.delete(&format!("{tags}/u.Work"), Value::Null).await.ok();
    alice.delete(&format!("{tags}/m.favourite"), Value::Null).await.ok();
    let news = alice.sync(Some(&news["next_batch"])).await;
    assert_eq!(of_type(told(&news, &room), "m.tag")["content"], json!({ "tags": {} }));
    alice.put(&format!("{tags}/a"), json!({ "order": "first" })).await.refused(400, "M_BAD_JSON");
    for order in [json!(-0.1), json!(1.5)] {
        alice.put(&format!("{tags}/a"), json!({ "order": order })).await.refused(400, "M_INVALID_PARAM");
    }
    alice.put(&format!("{tags}/{}", "t".repeat(256)), json!({})).await.refused(400, "M_INVALID_PARAM");
    assert_eq!(alice.get(&tags).await.ok(), json!({ "tags": {} }));
}

#[tokio::test]
async fn a_waiting_sync_wakes_for_account_data() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let since = alice.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let path = global(&alice, "a");
    let query = format!("since={since}&timeout=30000");
    let (sync, _) = tokio::join!(alice.sync_with(&query), async {
        tokio::task::yield_now().await;
        alice.put(&path, json!({ "x": 1 })).await.ok()
    });
    assert_eq!(types(&sync["account_data"]["events"]), ["a"]);
}
