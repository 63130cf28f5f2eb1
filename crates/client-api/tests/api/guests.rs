//! Guests: what they may do, and what only members with an account may (client-server API, "Guest access").

use http::Method;
use serde_json::json;

use crate::support::{Site, User};

async fn guest(site: &Site) -> User<'_> {
    let made = site.raw(Method::POST, "/_matrix/client/v3/register?kind=guest", None, "{}").await.ok();
    User::from(site, &made)
}

#[tokio::test]
async fn a_guest_joins_only_rooms_that_let_guests_in() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let guest = guest(&site).await;
    let closed = alice.room(json!({ "preset": "public_chat", "room_alias_name": "closed" })).await;
    for path in [format!("v3/join/{closed}"), format!("v3/rooms/{closed}/join"), "v3/join/%23closed:hs.test".into()] {
        guest.post(&path, json!({})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    }
    alice.set_state(&closed, "m.room.guest_access", json!({ "guest_access": "can_join" })).await.ok();
    guest.join(&closed).await.ok();
    guest.say(&closed, "1", "hello").await;
    guest.sync(None).await;
    guest.get(&format!("v3/rooms/{closed}/messages?dir=b")).await.ok();
    guest.get(&format!("v3/rooms/{closed}/members")).await.ok();
    guest.leave(&closed).await;
}

#[tokio::test]
async fn a_membership_set_as_state_opens_no_door_for_a_guest() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let guest = guest(&site).await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let path = format!("v3/rooms/{room}/state/m.room.member/{}", guest.id);
    guest.put(&path, json!({ "membership": "join" })).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
}

#[tokio::test]
async fn guests_are_taken_out_when_a_room_closes_to_them() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (one, two) = (guest(&site).await, guest(&site).await);
    let access = |value: &str| json!([{ "type": "m.room.guest_access", "content": { "guest_access": value } }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": access("can_join") })).await;
    for user in [&one, &two, &bob] {
        user.join(&room).await.ok();
    }
    alice.set_state(&room, "m.room.guest_access", json!({ "guest_access": "forbidden" })).await.ok();
    site.work().await;
    for (user, membership) in [(&one, "leave"), (&two, "leave"), (&bob, "join")] {
        assert_eq!(alice.member(&room, user).await["membership"], membership);
    }
    one.join(&room).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
}

#[tokio::test]
async fn endpoints_that_are_not_for_guests_say_so() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let guest = guest(&site).await;
    let initial = json!([{ "type": "m.room.guest_access", "content": { "guest_access": "can_join" } }]);
    let room = alice.room(json!({ "preset": "public_chat", "initial_state": initial })).await;
    guest.join(&room).await.ok();
    let event = guest.say(&room, "1", "hello").await;
    let target = json!({ "user_id": alice.id });
    for (method, path, body) in [
        (Method::POST, "v3/createRoom".to_owned(), json!({})),
        (Method::POST, format!("v3/rooms/{room}/invite"), target.clone()),
        (Method::POST, format!("v3/rooms/{room}/kick"), target.clone()),
        (Method::POST, format!("v3/rooms/{room}/ban"), target.clone()),
        (Method::POST, format!("v3/rooms/{room}/unban"), target),
        (Method::POST, format!("v3/knock/{room}"), json!({})),
        (Method::PUT, format!("v3/rooms/{room}/redact/{event}/1"), json!({})),
        (Method::PUT, "v3/directory/room/%23x:hs.test".to_owned(), json!({ "room_id": room })),
        (Method::DELETE, "v3/directory/room/%23x:hs.test".to_owned(), json!({})),
        (Method::PUT, format!("v3/profile/{}/avatar_url", guest.id), json!({ "avatar_url": "mxc://a/b" })),
        (Method::DELETE, format!("v3/profile/{}/avatar_url", guest.id), json!({})),
        (Method::POST, format!("v3/user/{}/filter", guest.id), json!({})),
        (Method::PUT, format!("v3/user/{}/account_data/a", guest.id), json!({ "x": 1 })),
        (Method::PUT, format!("v3/user/{}/rooms/{room}/tags/a", guest.id), json!({})),
        (Method::POST, format!("v3/rooms/{room}/receipt/m.read/{event}"), json!({})),
        (Method::PUT, format!("v3/rooms/{room}/typing/{}", guest.id), json!({ "typing": true })),
        (Method::PUT, format!("v3/presence/{}/status", guest.id), json!({ "presence": "online" })),
        (Method::POST, format!("v3/rooms/{room}/read_markers"), json!({ "m.read": event })),
        (Method::DELETE, format!("v3/devices/{}", guest.device), json!({})),
        (Method::POST, "v3/delete_devices".to_owned(), json!({ "devices": [] })),
    ] {
        guest.call(method, &path, body).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    }
    let name = format!("v3/profile/{}/displayname", guest.id);
    guest.put(&name, json!({ "displayname": "Gast" })).await.ok();
    guest.delete(&name, json!({})).await.ok();
    guest.get("v3/devices").await.ok();
    guest.get("v3/joined_rooms").await.ok();
    guest.get("v3/account/whoami").await.ok();
    guest.post("v3/logout", json!({})).await.ok();
}
