//! Unread counts in sync.

use serde_json::{Value, json};

use crate::support::{Site, User, filter, url};

/// A room of Alice's in which Bob is, and where his syncs go on from.
async fn shared<'a>(alice: &User<'a>, bob: &User<'a>) -> (String, Value) {
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await["next_batch"].clone();
    (room, since)
}

/// Sends a message that relates to another; its id.
async fn relate(user: &User<'_>, room: &str, txn: &str, kind: &str, text: &str, rel_type: &str, to: &str) -> String {
    let body = json!({ "msgtype": "m.text", "body": text, "m.relates_to": { "rel_type": rel_type, "event_id": to } });
    let answer = user.put(&format!("v3/rooms/{room}/send/{kind}/{txn}"), body).await.ok();
    answer["event_id"].as_str().expect("an id").to_owned()
}

async fn receipt(user: &User<'_>, room: &str, kind: &str, event: &str, thread: Option<&str>) {
    let body = thread.map_or_else(|| json!({}), |thread| json!({ "thread_id": thread }));
    user.post(&format!("v3/rooms/{room}/receipt/{kind}/{}", url(event)), body).await.ok();
}

/// A room's counts, all together: notifications and highlights.
async fn counts(user: &User<'_>, room: &str, since: &Value) -> (u64, u64) {
    let synced = user.sync(Some(since)).await;
    let joined = &synced["rooms"]["join"][room];
    assert!(joined["unread_thread_notifications"].is_null());
    pair(&joined["unread_notifications"])
}

fn pair(counts: &Value) -> (u64, u64) {
    let number = |key: &str| counts[key].as_u64().unwrap_or_else(|| panic!("no {key} in {counts}"));
    (number("notification_count"), number("highlight_count"))
}

/// A room's counts outside threads and in one.
async fn by_thread(user: &User<'_>, room: &str, since: &Value, root: &str) -> ((u64, u64), Option<(u64, u64)>) {
    let wanted = filter(&json!({ "room": { "timeline": { "unread_thread_notifications": true } } }));
    let since = since.as_str().expect("a token");
    let synced = user.sync_with(&format!("timeout=0&since={since}&{wanted}")).await;
    let joined = &synced["rooms"]["join"][room];
    let thread = &joined["unread_thread_notifications"][root];
    (pair(&joined["unread_notifications"]), (!thread.is_null()).then(|| pair(thread)))
}

/// Changes a user's name in a room.
async fn rename(user: &User<'_>, room: &str, name: &str) {
    let content = json!({ "membership": "join", "displayname": name });
    user.put(&format!("v3/rooms/{room}/state/m.room.member/{}", user.id), content).await.ok();
}

#[tokio::test]
async fn threads_are_counted_and_read_apart() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, since) = shared(&alice, &bob).await;
    let message = "m.room.message";
    let root = alice.say(&room, "a", "Hello world!").await;
    let first = relate(&alice, &room, "b", message, "Start thread!", "m.thread", &root).await;
    relate(&alice, &room, "c", message, &format!("Thread response {}!", bob.id), "m.thread", &root).await;
    let aside = alice.say(&room, "d", &format!("Hello {}!", bob.id)).await;
    relate(&alice, &room, "e", message, "End thread", "m.thread", &root).await;
    let reference = relate(&alice, &room, "f", message, "Reference!", "m.reference", &root).await;
    let reaction = relate(&alice, &room, "g", "m.room.reaction", "test", "m.annotation", &reference).await;
    assert_eq!(counts(&bob, &room, &since).await, (6, 2));
    assert_eq!(by_thread(&bob, &room, &since, &root).await, ((3, 1), Some((3, 1))));
    receipt(&bob, &room, "m.read", &root, Some("main")).await;
    assert_eq!(counts(&bob, &room, &since).await, (5, 2));
    assert_eq!(by_thread(&bob, &room, &since, &root).await, ((2, 1), Some((3, 1))));
    receipt(&bob, &room, "m.read", &first, Some(&root)).await;
    assert_eq!(counts(&bob, &room, &since).await, (4, 2));
    assert_eq!(by_thread(&bob, &room, &since, &root).await, ((2, 1), Some((2, 1))));
    receipt(&bob, &room, "m.read", &aside, None).await;
    assert_eq!(counts(&bob, &room, &since).await, (2, 0));
    assert_eq!(by_thread(&bob, &room, &since, &root).await, ((1, 0), Some((1, 0))));
    receipt(&bob, &room, "m.read.private", &reaction, Some(&root)).await;
    assert_eq!(counts(&bob, &room, &since).await, (1, 0));
    assert_eq!(by_thread(&bob, &room, &since, &root).await, ((1, 0), None));
}

#[tokio::test]
async fn what_a_user_sends_reads_its_thread() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, since) = shared(&alice, &bob).await;
    let message = "m.room.message";
    let root = alice.say(&room, "1", "root").await;
    relate(&alice, &room, "2", message, "in it", "m.thread", &root).await;
    bob.set_state(&room, "org.example.state", json!({})).await.refused(403, "M_FORBIDDEN");
    rename(&bob, &room, "Robert").await;
    assert_eq!(counts(&bob, &room, &since).await, (2, 0), "a profile is nothing that reads");
    bob.say(&room, "3", "answer").await;
    assert_eq!(by_thread(&bob, &room, &since, &root).await, ((0, 0), Some((1, 0))));
    relate(&bob, &room, "4", message, "answer", "m.thread", &root).await;
    assert_eq!(counts(&bob, &room, &since).await, (0, 0));
    alice.say(&room, "5", "more").await;
    assert_eq!(counts(&bob, &room, &since).await, (1, 0));
    assert_eq!(counts(&alice, &room, &since).await, (1, 0), "own events don't count, and read only their thread");
}

#[tokio::test]
async fn redactions_rules_and_stays_change_counts() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    alice.say(&room, "0", "before").await;
    bob.join(&room).await.ok();
    let since = bob.sync(None).await["next_batch"].clone();
    let one = alice.say(&room, "1", "hello bob").await;
    alice.say(&room, "2", "hello").await;
    assert_eq!(counts(&bob, &room, &since).await, (2, 1));
    alice.put(&format!("v3/rooms/{room}/redact/{}/r", url(&one)), json!({})).await.ok();
    assert_eq!(counts(&bob, &room, &since).await, (1, 0));
    alice.put(&format!("v3/rooms/{room}/redact/{}/r2", url(&one)), json!({})).await.ok();
    assert_eq!(counts(&bob, &room, &since).await, (1, 0), "nothing is taken back twice");
    let mute = format!("v3/pushrules/global/room/{}", url(&room));
    bob.put(&mute, json!({ "actions": [] })).await.ok();
    alice.say(&room, "3", "psst").await;
    assert_eq!(counts(&bob, &room, &since).await, (0, 0));
    bob.delete(&mute, json!({})).await.ok();
    alice.say(&room, "4", "loud").await;
    assert_eq!(counts(&bob, &room, &since).await, (3, 0));
    bob.leave(&room).await;
    alice.say(&room, "5", "gone").await;
    bob.join(&room).await.ok();
    alice.say(&room, "6", "back").await;
    assert_eq!(counts(&bob, &room, &since).await, (1, 0));
}

#[tokio::test]
async fn who_is_ignored_does_not_count() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, since) = shared(&alice, &bob).await;
    let carol = site.user("carol").await;
    carol.join(&room).await.ok();
    alice.say(&room, "1", "hello").await;
    carol.say(&room, "2", "bob!").await;
    assert_eq!(counts(&bob, &room, &since).await, (2, 1));
    let ignore = async |users: Value| {
        let path = format!("v3/user/{}/account_data/m.ignored_user_list", bob.id);
        bob.put(&path, json!({ "ignored_users": users })).await.ok();
    };
    ignore(json!({ &carol.id: {} })).await;
    assert_eq!(counts(&bob, &room, &since).await, (1, 0));
    carol.say(&room, "3", "bob?").await;
    assert_eq!(counts(&bob, &room, &since).await, (1, 0));
    ignore(json!({})).await;
    assert_eq!(counts(&bob, &room, &since).await, (3, 2));
}

#[tokio::test]
async fn a_room_is_told_of_when_only_its_counts_change() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, _) = shared(&alice, &bob).await;
    let event = alice.say(&room, "1", "hello").await;
    let quiet = filter(&json!({ "room": { "ephemeral": { "types": [] }, "timeline": { "types": [] } } }));
    let first = bob.sync_with(&format!("timeout=0&{quiet}")).await;
    assert_eq!(pair(&first["rooms"]["join"][&room]["unread_notifications"]), (1, 0));
    let since = first["next_batch"].as_str().expect("a token");
    let query = format!("timeout=10000&since={since}&{quiet}");
    let (synced, ()) = tokio::join!(bob.sync_with(&query), receipt(&bob, &room, "m.read", &event, None));
    assert_eq!(pair(&synced["rooms"]["join"][&room]["unread_notifications"]), (0, 0));
    let since = synced["next_batch"].as_str().expect("a token");
    let query = format!("timeout=10000&since={since}&{quiet}");
    let (synced, _) = tokio::join!(bob.sync_with(&query), alice.say(&room, "2", "again"));
    assert_eq!(pair(&synced["rooms"]["join"][&room]["unread_notifications"]), (1, 0));
}

#[tokio::test]
async fn the_room_is_mentioned_by_who_may() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (room, since) = shared(&alice, &bob).await;
    let mention = json!({ "msgtype": "m.text", "body": "all", "m.mentions": { "room": true } });
    alice.put(&format!("v3/rooms/{room}/send/m.room.message/1"), mention.clone()).await.ok();
    assert_eq!(counts(&bob, &room, &since).await, (1, 1));
    let alice_since = alice.sync(None).await["next_batch"].clone();
    bob.put(&format!("v3/rooms/{room}/send/m.room.message/2"), mention).await.ok();
    assert_eq!(counts(&alice, &room, &alice_since).await, (1, 0), "bob may not");
    rename(&bob, &room, "Robert").await;
    alice.say(&room, "3", "robert?").await;
    assert_eq!(counts(&bob, &room, &since).await, (1, 1), "by name; what was before is read");
}
