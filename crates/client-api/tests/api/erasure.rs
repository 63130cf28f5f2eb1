//! What a user wrote who asked to be erased: hidden from those who were not there.

use serde_json::{Value, json};

use crate::support::{Site, User, bodies, types};

async fn page(user: &User<'_>, room: &str) -> Value {
    user.get(&format!("v3/rooms/{room}/messages?dir=f&limit=100")).await.ok()["chunk"].clone()
}

#[tokio::test]
async fn i9_an_erased_user_is_read_by_those_who_were_there_and_nobody_else() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let name = format!("v3/profile/{}/displayname", alice.id);
    alice.put(&name, json!({ "displayname": "Alice Liddell" })).await.ok();
    let room = bob.room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await.ok();
    let secret = alice.say(&room, "1", "wonderland").await;
    bob.say(&room, "1", "hello").await;
    site.parts.users.deactivate(alice.nid().await, true, &storage::Batch::new()).await.expect("deactivated");
    carol.join(&room).await.ok();

    assert_eq!(bodies(&page(&bob, &room).await), ["wonderland", "hello"]);
    let seen = page(&carol, &room).await;
    assert_eq!(bodies(&seen), ["hello"]);
    assert_eq!(types(&seen), types(&page(&bob, &room).await), "nothing is missing, only empty");
    let event = carol.get(&format!("v3/rooms/{room}/event/{secret}")).await.ok();
    assert_eq!((&event["content"], &event["sender"]), (&json!({}), &json!(alice.id)));
    let context = carol.get(&format!("v3/rooms/{room}/context/{secret}?limit=10")).await.ok();
    let synced = carol.sync(None).await;
    for told in [&seen, &event, &context, &synced] {
        let text = told.to_string();
        assert!(!text.contains("wonderland") && !text.contains("Liddell"), "{text}");
    }
    let filter = json!({ "contains_url": false, "types": ["m.room.message"] });
    let filtered = format!("v3/rooms/{room}/messages?dir=f&{}", crate::support::filter(&filter));
    assert_eq!(bodies(&carol.get(&filtered).await.ok()["chunk"]), ["hello"]);
}

#[tokio::test]
async fn what_an_erased_user_said_of_the_room_stays() {
    let site = Site::new().await;
    let (alice, carol) = (site.user("alice").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat", "name": "Tea party" })).await;
    site.parts.users.deactivate(alice.nid().await, true, &storage::Batch::new()).await.expect("deactivated");
    carol.join(&room).await.ok();
    assert_eq!(carol.state(&room, "m.room.name").await["name"], "Tea party");
    assert!(page(&carol, &room).await.to_string().contains("Tea party"));
}

#[tokio::test]
async fn who_is_deactivated_without_erasure_is_read_as_before() {
    let site = Site::new().await;
    let (alice, carol) = (site.user("alice").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    alice.say(&room, "1", "wonderland").await;
    site.parts.users.deactivate(alice.nid().await, false, &storage::Batch::new()).await.expect("deactivated");
    carol.join(&room).await.ok();
    assert_eq!(bodies(&page(&carol, &room).await), ["wonderland"]);
}
