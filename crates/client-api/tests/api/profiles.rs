//! A changed profile in the user's rooms (client-server API, "Events on Change of Profile Information").

use serde_json::json;

use crate::support::Site;

#[tokio::test]
async fn a_changed_name_and_avatar_reach_the_rooms_and_their_syncs() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let since = alice.sync(None).await["next_batch"].clone();
    bob.put(&format!("v3/profile/{}/displayname", bob.id), json!({ "displayname": "Bob" })).await.ok();
    bob.put(&format!("v3/profile/{}/avatar_url", bob.id), json!({ "avatar_url": "mxc://hs.test/b" })).await.ok();
    site.work().await;
    let whole = json!({ "membership": "join", "displayname": "Bob", "avatar_url": "mxc://hs.test/b" });
    assert_eq!(alice.member(&room, &bob).await, whole);
    let synced = alice.sync(Some(&since)).await;
    let events = synced["rooms"]["join"][&room]["timeline"]["events"].as_array().expect("events").clone();
    assert_eq!(events.last().expect("the change")["content"], whole);
    bob.delete(&format!("v3/profile/{}/displayname", bob.id), json!({})).await.ok();
    bob.put(&format!("v3/profile/{}/avatar_url", bob.id), json!({})).await.ok();
    site.work().await;
    assert_eq!(alice.member(&room, &bob).await, json!({ "membership": "join" }));
}

#[tokio::test]
async fn a_change_that_is_refused_reaches_no_room() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let name = format!("v3/profile/{}/displayname", alice.id);
    bob.put(&name, json!({ "displayname": "Mallory" })).await.refused(403, "M_FORBIDDEN");
    alice.put(&name, json!({ "displayname": 1 })).await.refused(400, "M_BAD_JSON");
    site.work().await;
    assert_eq!(alice.member(&room, &alice).await, json!({ "membership": "join" }));
}
