//! The list of what a user was told of.

use serde_json::{Value, json};

use crate::support::{Site, url};

fn bodies(page: &Value) -> Vec<&str> {
    let all = page["notifications"].as_array().expect("a list");
    all.iter().map(|one| one["event"]["content"]["body"].as_str().expect("a body")).collect()
}

#[tokio::test]
async fn notifications_of_all_rooms_are_listed_the_newest_first() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = alice.room(json!({ "preset": "public_chat" })).await;
        alice.say(&room, "before", "before bob").await;
        bob.join(&room).await.ok();
        rooms.push(room);
    }
    let mut sent = Vec::new();
    for number in 0..10 {
        let text = if number % 5 == 0 { format!("{number} bob") } else { number.to_string() };
        sent.push(alice.say(&rooms[number % 3], &number.to_string(), &text).await);
    }
    bob.say(&rooms[0], "own", "bob himself").await;
    let all = bob.get("v3/notifications").await.ok();
    assert_eq!(bodies(&all), ["9", "8", "7", "6", "5 bob", "4", "3", "2", "1", "0 bob"]);
    assert!(all["next_token"].is_null());
    let newest = &all["notifications"][0];
    assert_eq!(
        (&newest["room_id"], &newest["read"], &newest["event"]["event_id"]),
        (&json!(rooms[0]), &json!(false), &json!(sent[9]))
    );
    assert_eq!(newest["actions"], json!(["notify", { "set_tweak": "sound", "value": "default" }]), "two in a room");
    assert!(newest["ts"].is_u64() && newest["event"]["room_id"].is_null());
    let loud = bob.get("v3/notifications?only=highlight").await.ok();
    assert_eq!(bodies(&loud), ["5 bob", "0 bob"]);
    let (mut paged, mut from) = (Vec::new(), String::new());
    loop {
        let page = bob.get(&format!("v3/notifications?limit=3{from}")).await.ok();
        paged.extend(bodies(&page).into_iter().map(str::to_owned));
        let Some(next) = page["next_token"].as_str() else { break };
        from = format!("&from={next}");
    }
    assert_eq!(paged, bodies(&all));
    let receipt = format!("v3/rooms/{}/receipt/m.read/{}", rooms[0], url(&sent[6]));
    bob.post(&receipt, json!({})).await.ok();
    let all = bob.get("v3/notifications").await.ok();
    let read = all["notifications"].as_array().expect("a list").iter().filter(|one| one["read"] == true);
    assert_eq!(read.count(), 3, "0, 3 and 6");
    assert_eq!(alice.get("v3/notifications").await.ok()["notifications"].as_array().map(Vec::len), Some(1));
    bob.leave(&rooms[0]).await;
    assert_eq!(bodies(&bob.get("v3/notifications").await.ok()), ["8", "7", "5 bob", "4", "2", "1"]);
}

#[tokio::test]
async fn bad_places_are_refused() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for bad in ["x", "s123", "n", "n____"] {
        alice.get(&format!("v3/notifications?from={bad}")).await.refused(400, "M_INVALID_PARAM");
    }
    alice.get("v3/notifications?limit=many").await.refused(400, "M_INVALID_PARAM");
    let none = alice.get("v3/notifications?limit=0&only=other").await.ok();
    assert_eq!(none, json!({ "notifications": [] }));
}
