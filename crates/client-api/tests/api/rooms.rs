//! Making rooms, sending, reading, syncing.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Site, bodies};

#[tokio::test]
async fn two_users_talk_and_see_the_same() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "private_chat", "name": "Tea", "invite": [bob.id] })).await;
    let invited = bob.sync(None).await;
    let stripped = &invited["rooms"]["invite"][&room]["invite_state"]["events"];
    assert!(stripped.as_array().expect("stripped state").iter().any(|event| event["content"]["name"] == "Tea"));
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    let first = bob.sync(None).await;
    assert_eq!(first["rooms"]["join"][&room]["summary"]["m.joined_member_count"], 2);
    let event = alice.say(&room, "1", "hello").await;
    let next = bob.sync(Some(&first["next_batch"])).await;
    let timeline = &next["rooms"]["join"][&room]["timeline"];
    assert_eq!((bodies(&timeline["events"]), &timeline["limited"]), (vec!["hello"], &json!(false)));
    assert_eq!(timeline["events"][0]["event_id"], event.as_str());
    let quiet = bob.sync(Some(&next["next_batch"])).await;
    assert!(quiet["rooms"]["join"].as_object().is_none_or(serde_json::Map::is_empty), "{quiet}");
    let page = bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["hello"]);
}

#[tokio::test]
async fn a_transaction_has_the_effect_of_one_i11() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let first = alice.say(&room, "same", "once").await;
    // The repetition is answered before its body is looked at.
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/same");
    let again = site.raw(Method::PUT, &path, Some(&alice.token), "no json").await.ok();
    assert_eq!(again["event_id"], first.as_str());
    let other_device = alice.log_in().await;
    assert_ne!(other_device.say(&room, "same", "twice").await, first);
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["twice", "once"]);
}

#[tokio::test]
async fn only_the_sending_device_sees_its_transaction_id() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let other = alice.log_in().await;
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "mine", "hello").await;
    let path = format!("v3/rooms/{room}/event/{event}");
    assert_eq!(alice.get(&path).await.ok()["unsigned"]["transaction_id"], "mine");
    assert_eq!(other.get(&path).await.ok()["unsigned"]["transaction_id"], Value::Null);
}

#[tokio::test]
async fn a_redacted_event_has_lost_its_content_on_every_read() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let event = alice.say(&room, "1", "a mistake").await;
    let redaction = alice.put(&format!("v3/rooms/{room}/redact/{event}/2"), json!({ "reason": "typo" })).await.ok();
    let read = alice.get(&format!("v3/rooms/{room}/event/{event}")).await.ok();
    assert_eq!(
        (&read["content"], &read["unsigned"]["redacted_because"]["event_id"]),
        (&json!({}), &redaction["event_id"])
    );
    for path in ["messages?dir=b".to_owned(), format!("context/{event}")] {
        let text = alice.get(&format!("v3/rooms/{room}/{path}")).await.ok().to_string();
        assert!(!text.contains("a mistake"), "{text}");
    }
    let sync = alice.sync(None).await;
    assert!(!sync.to_string().contains("a mistake"));
}

#[tokio::test]
async fn state_is_set_and_read_with_and_without_a_key() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({})).await;
    alice.put(&format!("v3/rooms/{room}/state/m.room.topic"), json!({ "topic": "tea" })).await.ok();
    assert_eq!(alice.get(&format!("v3/rooms/{room}/state/m.room.topic/")).await.ok()["topic"], "tea");
    alice.put(&format!("v3/rooms/{room}/state/test.type/a%2Fb"), json!({ "x": 1 })).await.ok();
    let event = alice.get(&format!("v3/rooms/{room}/state/test.type/a%2Fb?format=event")).await.ok();
    assert_eq!((&event["state_key"], &event["content"]["x"]), (&json!("a/b"), &json!(1)));
    alice.get(&format!("v3/rooms/{room}/state/no.such")).await.refused(404, "M_NOT_FOUND");
    bob.get(&format!("v3/rooms/{room}/state")).await.refused(403, "M_FORBIDDEN");
    let all = alice.get(&format!("v3/rooms/{room}/state")).await.ok();
    assert!(all.as_array().expect("a list").iter().any(|event| event["type"] == "m.room.create"));
}

#[tokio::test]
async fn members_come_and_go() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let target = json!({ "user_id": bob.id, "reason": "because" });
    bob.post(&format!("v3/rooms/{room}/join"), json!({})).await.ok();
    assert_eq!(bob.get("v3/joined_rooms").await.ok()["joined_rooms"], json!([room]));
    alice.post(&format!("v3/rooms/{room}/kick"), target.clone()).await.ok();
    alice.post(&format!("v3/rooms/{room}/kick"), target.clone()).await.refused(403, "M_FORBIDDEN");
    alice.post(&format!("v3/rooms/{room}/ban"), target.clone()).await.ok();
    bob.post(&format!("v3/join/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.post(&format!("v3/rooms/{room}/unban"), target.clone()).await.ok();
    bob.post(&format!("v3/rooms/{room}/forget"), json!({})).await.ok();
    bob.post(&format!("v3/join/{room}"), json!({})).await.ok();
    bob.post(&format!("v3/rooms/{room}/forget"), json!({})).await.refused(400, "M_UNKNOWN");
    let members = alice.get(&format!("v3/rooms/{room}/members?membership=join")).await.ok();
    assert_eq!(members["chunk"].as_array().expect("members").len(), 2);
    bob.post(&format!("v3/rooms/{room}/leave"), json!({})).await.ok();
    let joined = alice.get(&format!("v3/rooms/{room}/joined_members")).await.ok();
    assert_eq!(joined["joined"].as_object().expect("members").len(), 1);
}
