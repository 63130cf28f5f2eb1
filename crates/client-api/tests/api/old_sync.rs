//! Endpoints for clients from before `/sync`.

use serde_json::json;

use crate::support::{Site, bodies, of_type, types};

#[tokio::test]
async fn an_initial_sync_and_the_stream_after_it() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "visibility": "public", "name": "Tea" })).await;
    let left = bob.room(json!({ "preset": "public_chat" })).await;
    alice.join(&left).await.ok();
    alice.leave(&left).await;
    let invited = bob.room(json!({ "invite": [alice.id] })).await;
    for text in ["one", "two", "three"] {
        alice.say(&room, text, text).await;
    }
    alice.put(&format!("v3/user/{}/rooms/{room}/tags/u.a", alice.id), json!({})).await.ok();
    let sync = alice.get("v3/initialSync?limit=2").await.ok();
    let rooms = sync["rooms"].as_array().expect("rooms");
    let of = |id: &str| rooms.iter().find(|room| room["room_id"] == id);
    let info = of(&room).expect("the room");
    assert_eq!((&info["membership"], &info["visibility"]), (&json!("join"), &json!("public")));
    assert_eq!(bodies(&info["messages"]["chunk"]), ["two", "three"]);
    assert_eq!(info["messages"]["chunk"][0]["room_id"], room.as_str());
    assert_eq!(of_type(&info["state"], "m.room.name")["content"]["name"], "Tea");
    assert_eq!(types(&info["account_data"]), ["m.tag"]);
    let start = info["messages"]["start"].as_str().expect("a token");
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&from={start}&limit=1")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["one"]);
    let invite = of(&invited).expect("the invite");
    assert_eq!((&invite["membership"], &invite["invite"]["sender"]), (&json!("invite"), &json!(bob.id)));
    assert!(of(&left).is_none());
    let archived = alice.get("v3/initialSync?archived=true").await.ok();
    let archived = archived["rooms"].as_array().expect("rooms").iter().find(|room| room["room_id"] == left.as_str());
    assert_eq!(archived.expect("archived")["membership"], "leave");

    let from = sync["end"].as_str().expect("a token").to_owned();
    let event = alice.say(&room, "four", "four").await;
    let stream = alice.get(&format!("v3/events?from={from}")).await.ok();
    assert_eq!((bodies(&stream["chunk"]), &stream["start"]), (vec!["four"], &json!(from)));
    assert_eq!(stream["chunk"][0]["room_id"], room.as_str());
    let end = stream["end"].as_str().expect("a token");
    assert_eq!(alice.get(&format!("v3/events?from={end}&timeout=0")).await.ok()["chunk"], json!([]));
    assert_eq!(alice.get("v3/events").await.ok()["chunk"], json!([]));
    alice.get("v3/events?from=nonsense").await.refused(400, "M_INVALID_PARAM");
    assert_eq!(alice.get(&format!("v3/events/{event}")).await.ok()["content"]["body"], "four");
    bob.get(&format!("v3/events/{event}")).await.refused(404, "M_NOT_FOUND");
    alice.get("v3/events/$none").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_room_is_shown_to_those_who_may_see_it() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let open = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": open })).await;
    let closed = alice.room(json!({})).await;
    alice.say(&room, "1", "hello").await;
    let own = alice.get(&format!("v3/rooms/{room}/initialSync")).await.ok();
    assert_eq!((&own["membership"], &own["visibility"]), (&json!("join"), &json!("private")));
    assert_eq!(bodies(&own["messages"]["chunk"]), ["hello"]);
    assert_eq!(of_type(&own["state"], "m.room.create")["sender"], alice.id.as_str());
    let peeked = bob.get(&format!("v3/rooms/{room}/initialSync?limit=1")).await.ok();
    assert!(peeked["membership"].is_null());
    assert_eq!(bodies(&peeked["messages"]["chunk"]), ["hello"]);
    bob.get(&format!("v3/rooms/{closed}/initialSync")).await.refused(403, "M_FORBIDDEN");
    let from = bob.sync(None).await["next_batch"].as_str().expect("a token").to_owned();
    alice.say(&room, "2", "again").await;
    let stream = bob.get(&format!("v3/events?from={from}&room_id={room}&timeout=0")).await.ok();
    assert_eq!(bodies(&stream["chunk"]), ["again"]);
    let end = stream["end"].as_str().expect("a token");
    assert_eq!(bob.get(&format!("v3/events?from={end}&room_id={room}")).await.ok()["chunk"], json!([]));
    bob.get(&format!("v3/events?from={from}&room_id={closed}")).await.refused(403, "M_FORBIDDEN");
}
