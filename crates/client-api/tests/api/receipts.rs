//! Receipts and read markers.

use serde_json::{Value, json};

use crate::support::{Answer, Site, User, filter, of_type};

async fn read(user: &User<'_>, room: &str, receipt_type: &str, event: &str, body: Value) -> Answer {
    user.post(&format!("v3/rooms/{room}/receipt/{receipt_type}/{event}"), body).await
}

/// The content of the receipts that a sync tells of a room; null if there are none.
fn receipts<'a>(sync: &'a Value, room: &str) -> &'a Value {
    let events = &sync["rooms"]["join"][room]["ephemeral"]["events"];
    match events.as_array() {
        Some(events) if !events.is_empty() => {
            &of_type(&sync["rooms"]["join"][room]["ephemeral"]["events"], "m.receipt")["content"]
        }
        _ => &Value::Null,
    }
}

/// A reply in the thread of a root.
async fn in_thread(user: &User<'_>, room: &str, root: &str, rel_type: &str) -> String {
    let content = json!({ "body": "x", "m.relates_to": { "rel_type": rel_type, "event_id": root } });
    let path = format!("v3/rooms/{room}/send/m.room.message/{root}{rel_type}");
    user.put(&path, content).await.ok()["event_id"].as_str().expect("an id").to_owned()
}

async fn two_in_a_room(site: &Site) -> (User<'_>, User<'_>, String) {
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    (alice, bob, room)
}

#[tokio::test]
async fn a_receipt_is_told_to_all_and_a_private_one_to_its_user() {
    let site = Site::new().await;
    let (alice, bob, room) = two_in_a_room(&site).await;
    let event = alice.say(&room, "1", "hello").await;
    let (a, b) = (alice.sync(None).await, bob.sync(None).await);
    assert_eq!(receipts(&a, &room), &Value::Null);
    read(&bob, &room, "m.read", &event, json!({})).await.ok();
    read(&bob, &room, "m.read.private", &event, json!({})).await.ok();
    let data = json!({ "ts": 1_700_000_000_000_u64 });
    let seen = alice.sync(Some(&a["next_batch"])).await;
    assert_eq!(receipts(&seen, &room), &json!({ &event: { "m.read": { &bob.id: data } } }));
    assert!(seen["rooms"]["join"][&room]["ephemeral"]["events"][0]["room_id"].is_null());
    assert_eq!(seen["rooms"]["join"][&room]["timeline"]["events"], json!([]));
    let both = json!({ &event: { "m.read": { &bob.id: data }, "m.read.private": { &bob.id: data } } });
    assert_eq!(receipts(&bob.sync(Some(&b["next_batch"])).await, &room), &both);
    assert_eq!(receipts(&bob.sync(None).await, &room), &both);
    assert!(alice.sync(Some(&seen["next_batch"])).await["rooms"].is_null());
    let none = filter(&json!({ "room": { "ephemeral": { "not_types": ["m.*"] } } }));
    assert_eq!(receipts(&alice.sync_with(&none).await, &room), &Value::Null);
}

#[tokio::test]
async fn a_receipt_moves_forward_only() {
    let site = Site::new().await;
    let (alice, bob, room) = two_in_a_room(&site).await;
    let (one, two) = (alice.say(&room, "1", "one").await, alice.say(&room, "2", "two").await);
    let markers = format!("v3/rooms/{room}/read_markers");
    bob.post(&markers, json!({ "m.fully_read": two, "m.read": two })).await.ok();
    let before = bob.sync(None).await;
    assert!(receipts(&before, &room)[&two].is_object());
    let data = format!("v3/user/{}/rooms/{room}/account_data/m.fully_read", bob.id);
    assert_eq!(bob.get(&data).await.ok(), json!({ "event_id": two }));
    read(&bob, &room, "m.read", &one, json!({})).await.ok();
    read(&bob, &room, "m.fully_read", &one, json!({})).await.ok();
    assert!(bob.sync(Some(&before["next_batch"])).await["rooms"].is_null());
    let three = alice.say(&room, "3", "three").await;
    read(&bob, &room, "m.fully_read", &three, json!({})).await.ok();
    read(&bob, &room, "m.read", &three, json!({})).await.ok();
    let news = bob.sync(Some(&before["next_batch"])).await;
    let told = of_type(&news["rooms"]["join"][&room]["account_data"]["events"], "m.fully_read");
    assert_eq!(told["content"], json!({ "event_id": three }));
    assert_eq!(receipts(&news, &room).as_object().expect("receipts").len(), 1);
    assert_eq!(receipts(&bob.sync(None).await, &room).as_object().expect("receipts").len(), 1);
}

#[tokio::test]
async fn threads_have_their_own_receipts_and_the_one_of_no_thread_wins() {
    let site = Site::new().await;
    let (alice, bob, room) = two_in_a_room(&site).await;
    let root = alice.say(&room, "1", "root").await;
    let reply = in_thread(&alice, &room, &root, "m.thread").await;
    let other = in_thread(&alice, &room, &root, "m.reference").await;
    let reaction = in_thread(&alice, &room, &other, "m.annotation").await;
    read(&bob, &room, "m.read", &root, json!({ "thread_id": "main" })).await.ok();
    read(&bob, &room, "m.read", &reply, json!({ "thread_id": root })).await.ok();
    let content = receipts(&bob.sync(None).await, &room).clone();
    assert_eq!(content[&root]["m.read"][&bob.id]["thread_id"], "main");
    assert_eq!(content[&reply]["m.read"][&bob.id]["thread_id"], root.as_str());
    // What is related to the root over another relation may be read as of its thread.
    read(&bob, &room, "m.read", &reaction, json!({ "thread_id": root })).await.ok();
    let moved = receipts(&bob.sync(None).await, &room).clone();
    assert!(moved[&reply].is_null() && moved[&reaction].is_object());
    // MSC4102, whichever comes first.
    read(&alice, &room, "m.read", &reply, json!({})).await.ok();
    read(&alice, &room, "m.read", &reply, json!({ "thread_id": root })).await.ok();
    assert!(receipts(&bob.sync(None).await, &room)[&reply]["m.read"][&alice.id]["thread_id"].is_null());
    read(&bob, &room, "m.read", &reaction, json!({})).await.ok();
    assert!(receipts(&bob.sync(None).await, &room)[&reaction]["m.read"][&bob.id]["thread_id"].is_null());
}

#[tokio::test]
async fn bad_receipts_are_refused_and_nothing_is_stored() {
    let site = Site::new().await;
    let (alice, bob, room) = two_in_a_room(&site).await;
    let carol = site.user("carol").await;
    let elsewhere = alice.room(json!({ "preset": "public_chat" })).await;
    let (here, there) = (alice.say(&room, "1", "one").await, alice.say(&elsewhere, "1", "two").await);
    for (receipt_type, event, body, status, errcode) in [
        ("m.read.everything", &here, json!({}), 400, "M_INVALID_PARAM"),
        ("m.read", &there, json!({}), 404, "M_NOT_FOUND"),
        ("m.fully_read", &there, json!({}), 404, "M_NOT_FOUND"),
        ("m.read", &"$none".to_owned(), json!({}), 404, "M_NOT_FOUND"),
        ("m.read", &here, json!({ "thread_id": "" }), 400, "M_INVALID_PARAM"),
        ("m.read", &here, json!({ "thread_id": 7 }), 400, "M_INVALID_PARAM"),
        ("m.read", &here, json!({ "thread_id": "other" }), 400, "M_INVALID_PARAM"),
        ("m.read", &here, json!({ "thread_id": there }), 400, "M_INVALID_PARAM"),
        ("m.read", &here, json!({ "thread_id": "$none" }), 400, "M_INVALID_PARAM"),
        ("m.fully_read", &here, json!({ "thread_id": "main" }), 400, "M_INVALID_PARAM"),
        ("m.read", &here, json!([]), 400, "M_BAD_JSON"),
    ] {
        read(&bob, &room, receipt_type, event, body).await.refused(status, errcode);
    }
    read(&carol, &room, "m.read", &here, json!({})).await.refused(403, "M_FORBIDDEN");
    read(&carol, "!none:hs.test", "m.read", &here, json!({})).await.refused(404, "M_NOT_FOUND");
    let markers = format!("v3/rooms/{room}/read_markers");
    bob.post(&markers, json!({ "m.read": here, "m.fully_read": "$none" })).await.refused(404, "M_NOT_FOUND");
    bob.post(&markers, json!({ "m.read": 7 })).await.refused(400, "M_BAD_JSON");
    bob.post(&markers, json!({})).await.ok();
    assert_eq!(receipts(&bob.sync(None).await, &room), &Value::Null);
}

#[tokio::test]
async fn what_one_may_not_see_one_can_not_have_read() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let hidden = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": hidden })).await;
    let before = alice.say(&room, "1", "before").await;
    bob.join(&room).await.ok();
    read(&bob, &room, "m.read", &before, json!({})).await.refused(404, "M_NOT_FOUND");
    let after = alice.say(&room, "2", "after").await;
    read(&bob, &room, "m.read", &after, json!({})).await.ok();
}

#[tokio::test]
async fn receipts_wake_those_who_wait() {
    let site = Site::new().await;
    let (alice, bob, room) = two_in_a_room(&site).await;
    let event = alice.say(&room, "1", "hello").await;
    let since = alice.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    let query = format!("since={since}&timeout=30000");
    let (sync, _) = tokio::join!(alice.sync_with(&query), async {
        tokio::task::yield_now().await;
        read(&bob, &room, "m.read", &event, json!({})).await.ok()
    });
    assert!(receipts(&sync, &room)[&event].is_object());
}
