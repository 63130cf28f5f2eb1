//! Ignored users and filtered invites.

use serde_json::{Value, json};

use crate::support::{Site, User, bodies, of_type};

async fn ignore(user: &User<'_>, ignored: &[&User<'_>]) {
    let ids: serde_json::Map<String, Value> = ignored.iter().map(|user| (user.id.clone(), json!({}))).collect();
    let path = format!("v3/user/{}/account_data/m.ignored_user_list", user.id);
    user.put(&path, json!({ "ignored_users": ids })).await.ok();
}

async fn filter_invites(user: &User<'_>, data_type: &str, config: Value) {
    user.put(&format!("v3/user/{}/account_data/{data_type}", user.id), config).await.ok();
}

const UNSTABLE: &str = "org.matrix.msc4155.invite_permission_config";
const STABLE: &str = "m.invite_permission_config";

#[tokio::test]
async fn messages_of_ignored_users_are_left_out_and_state_is_not() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let levels = json!({ "state_default": 0 });
    let room = alice.room(json!({ "preset": "public_chat", "power_level_content_override": levels })).await;
    bob.join(&room).await.ok();
    let start = alice.sync(None).await;
    ignore(&alice, &[&bob, &alice]).await;
    let hidden = bob.say(&room, "1", "hidden").await;
    alice.say(&room, "2", "shown").await;
    bob.set_state(&room, "m.room.topic", json!({ "topic": "tea" })).await.ok();
    let news = alice.sync(Some(&start["next_batch"])).await;
    let events = &news["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(bodies(events), ["shown"]);
    assert_eq!(of_type(events, "m.room.topic")["sender"], bob.id.as_str());
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok();
    assert_eq!(bodies(&page["chunk"]), ["shown"]);
    for path in ["event", "context"] {
        alice.get(&format!("v3/rooms/{room}/{path}/{hidden}")).await.refused(404, "M_NOT_FOUND");
    }
    assert_eq!(bodies(&bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok()["chunk"]), ["shown", "hidden"]);
    // What was missed stays missed for a sync that goes on; a new one shows it.
    ignore(&alice, &[]).await;
    assert_eq!(alice.get(&format!("v3/rooms/{room}/event/{hidden}")).await.ok()["content"]["body"], "hidden");
    let later = alice.sync(Some(&news["next_batch"])).await;
    assert!(later["rooms"].is_null());
    assert_eq!(bodies(&alice.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok()["chunk"]), ["shown", "hidden"]);
}

#[tokio::test]
async fn invites_of_ignored_users_are_not_told() {
    let site = Site::new().await;
    let (alice, bob, chris) = (site.user("alice").await, site.user("bob").await, site.user("chris").await);
    ignore(&alice, &[&bob]).await;
    let since = alice.sync(None).await;
    let of_bob = bob.room(json!({ "preset": "private_chat", "invite": [alice.id] })).await;
    let of_chris = chris.room(json!({ "preset": "private_chat", "invite": [alice.id] })).await;
    for sync in [alice.sync(Some(&since["next_batch"])).await, alice.sync(None).await] {
        assert!(sync["rooms"]["invite"][&of_bob].is_null() && sync["rooms"]["invite"][&of_chris].is_object());
    }
}

#[tokio::test]
async fn invites_are_blocked_in_every_way_to_send_one() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = bob.room(json!({})).await;
    let member = format!("v3/rooms/{room}/state/m.room.member/{}", alice.id);
    for (data_type, config) in [
        (UNSTABLE, json!({ "blocked_users": ["@b?b:*"] })),
        (UNSTABLE, json!({ "blocked_servers": ["hs.*"] })),
        (STABLE, json!({ "default_action": "block" })),
    ] {
        filter_invites(&alice, data_type, config).await;
        bob.act(&room, "invite", &alice).await.refused(403, "M_INVITE_BLOCKED");
        bob.put(&member, json!({ "membership": "invite" })).await.refused(403, "M_INVITE_BLOCKED");
        bob.post("v3/createRoom", json!({ "invite": [alice.id] })).await.refused(403, "M_INVITE_BLOCKED");
        assert!(alice.sync(None).await["rooms"].is_null());
        filter_invites(&alice, data_type, json!({})).await;
    }
    bob.act(&room, "invite", &alice).await.ok();
    assert!(alice.sync(None).await["rooms"]["invite"][&room].is_object());
    // An invite that is there already is not told either, as long as none are wanted.
    filter_invites(&alice, STABLE, json!({ "default_action": "block" })).await;
    assert!(alice.sync(None).await["rooms"].is_null());
    alice.join(&room).await.ok();
}

#[tokio::test]
async fn an_ignored_invite_looks_like_any_other_to_its_sender() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    filter_invites(&alice, UNSTABLE, json!({ "ignored_users": [bob.id], "blocked_servers": ["*"] })).await;
    let room = bob.room(json!({})).await;
    bob.act(&room, "invite", &alice).await.ok();
    assert_eq!(bob.member(&room, &alice).await["membership"], "invite");
    assert!(alice.sync(None).await["rooms"].is_null());
}
