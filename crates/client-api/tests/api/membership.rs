//! Coming into rooms and going out of them.

use serde_json::{Value, json};

use crate::support::{Site, User, filter};

#[tokio::test]
async fn a_join_keeps_the_content_that_the_client_adds() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat", "room_alias_name": "tea" })).await;
    let body = json!({ "foo": "bar", "reason": "why not", "membership": "ban", "displayname": "Mallory" });
    assert_eq!(bob.post(&format!("v3/join/{room}"), body.clone()).await.ok()["room_id"], room.as_str());
    let content = alice.member(&room, &bob).await;
    assert_eq!((&content["foo"], &content["reason"]), (&json!("bar"), &json!("why not")));
    assert_eq!(content["membership"], "join");
    carol.post("v3/join/%23tea:hs.test", json!({ "foo": "bar" })).await.ok();
    assert_eq!(alice.member(&room, &carol).await["foo"], "bar");
}

#[tokio::test]
async fn joining_twice_is_joining_once() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let path = format!("v3/rooms/{room}/state/m.room.member/{}?format=event", bob.id);
    let first = bob.get(&path).await.ok();
    bob.join(&room).await.ok();
    assert_eq!(bob.get(&path).await.ok()["event_id"], first["event_id"]);
}

#[tokio::test]
async fn an_invitation_is_needed_accepted_refused_and_not_given_twice() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "private_chat" })).await;
    bob.join(&room).await.refused(403, "M_FORBIDDEN");
    alice.act(&room, "invite", &alice).await.refused(403, "M_FORBIDDEN");
    alice.act(&room, "invite", &bob).await.ok();
    assert_eq!(alice.member(&room, &bob).await["membership"], "invite");
    bob.leave(&room).await;
    assert_eq!(alice.member(&room, &bob).await["membership"], "leave");
    bob.join(&room).await.refused(403, "M_FORBIDDEN");
    alice.act(&room, "invite", &bob).await.ok();
    bob.join(&room).await.ok();
    alice.act(&room, "invite", &bob).await.refused(403, "M_FORBIDDEN");
    bob.act(&room, "invite", &alice).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn an_invitation_to_a_room_that_everybody_left_can_be_refused() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "private_chat" })).await;
    alice.act(&room, "invite", &bob).await.ok();
    let invited = bob.sync(None).await;
    assert!(invited["rooms"]["invite"][&room].is_object());
    alice.leave(&room).await;
    bob.leave(&room).await;
    let left = bob.sync(Some(&invited["next_batch"])).await;
    let member = &left["rooms"]["leave"][&room]["timeline"]["events"][0];
    assert_eq!((&member["state_key"], &member["content"]["membership"]), (&json!(bob.id), &json!("leave")));
    let after = bob.sync(Some(&left["next_batch"])).await;
    assert!(after["rooms"].is_null(), "{after}");
    assert!(bob.sync(None).await["rooms"].is_null());
}

#[tokio::test]
async fn a_creator_who_left_is_invited_back() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "private_chat", "room_version": "11" })).await;
    alice.act(&room, "invite", &bob).await.ok();
    bob.join(&room).await.ok();
    let levels = json!({ "invite": 100, "users": { &alice.id: 100, &bob.id: 100 } });
    alice.set_state(&room, "m.room.power_levels", levels).await.ok();
    alice.leave(&room).await;
    bob.act(&room, "invite", &alice).await.ok();
    let sync = alice.sync(None).await;
    assert!(sync["rooms"]["invite"][&room].is_object());
    alice.join(&room).await.ok();
    let joined = alice.sync(Some(&sync["next_batch"])).await;
    assert!(joined["rooms"]["join"][&room].is_object());
    assert!(joined["rooms"]["invite"].is_null());
}

#[tokio::test]
async fn who_is_not_there_is_not_kicked_and_bans_nobody() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let room = alice.room(json!({ "preset": "public_chat", "room_version": "11" })).await;
    alice.act(&room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await.ok();
    let levels = json!({ "users": { &carol.id: 100, &alice.id: 100 } });
    alice.set_state(&room, "m.room.power_levels", levels).await.ok();
    carol.act(&room, "ban", &bob).await.refused(403, "M_FORBIDDEN");
    carol.act(&room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
    carol.act(&room, "invite", &bob).await.refused(403, "M_FORBIDDEN");
    bob.leave(&room).await;
    alice.act(&room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
    alice.act(&room, "unban", &bob).await.refused(403, "M_FORBIDDEN");
    let reasoned = json!({ "user_id": bob.id, "reason": "Testing" });
    alice.post(&format!("v3/rooms/{room}/ban"), reasoned).await.ok();
    assert_eq!(alice.member(&room, &bob).await, json!({ "membership": "ban", "reason": "Testing" }));
    alice.act(&room, "invite", &bob).await.refused(403, "M_FORBIDDEN");
    bob.post(&format!("v3/rooms/{room}/leave"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn rooms_and_users_that_do_not_exist() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    for action in ["invite", "kick", "ban", "unban"] {
        let body = json!({ "user_id": "@alice:hs.test" });
        let path = format!("v3/rooms/!nowhere:hs.test/{action}");
        let answer = alice.post(&path, body).await;
        assert!(matches!(answer.status.as_u16(), 403 | 404), "{action}: {}", answer.body);
        let bad = alice.post(&format!("v3/rooms/{room}/{action}"), json!({ "user_id": "nobody" })).await;
        assert_eq!(bad.status, 400, "{}", bad.body);
    }
    let answer = alice.post("v3/rooms/!nowhere:hs.test/leave", json!({})).await;
    assert!(matches!(answer.status.as_u16(), 403 | 404), "{}", answer.body);
    alice.post("v3/rooms/!nowhere:hs.test/forget", json!({})).await;
    alice.join("%23nothing:hs.test").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_knock_is_answered_withdrawn_and_seen() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let closed = alice.room(json!({ "preset": "private_chat" })).await;
    bob.post(&format!("v3/knock/{closed}"), json!({})).await.refused(403, "M_FORBIDDEN");
    let initial = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = alice.room(json!({ "initial_state": initial, "name": "Door" })).await;
    let since = bob.sync(None).await;
    let body = json!({ "reason": "let me in" });
    assert_eq!(bob.post(&format!("v3/knock/{room}"), body).await.ok()["room_id"], room.as_str());
    let content = alice.member(&room, &bob).await;
    assert_eq!((&content["membership"], &content["reason"]), (&json!("knock"), &json!("let me in")));
    let sync = bob.sync(Some(&since["next_batch"])).await;
    let state = sync["rooms"]["knock"][&room]["knock_state"]["events"].as_array().expect("events").clone();
    assert!(state.iter().any(|event| event["content"]["name"] == "Door"));
    assert!(state.iter().any(|event| event["content"]["membership"] == "knock"));
    bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    bob.leave(&room).await;
    let left = bob.sync(Some(&sync["next_batch"])).await;
    assert!(left["rooms"]["leave"][&room].is_object() && left["rooms"]["knock"].is_null(), "{left}");
    bob.post(&format!("v3/knock/{room}"), json!({})).await.ok();
    alice.act(&room, "invite", &bob).await.ok();
    bob.join(&room).await.ok();
    bob.post(&format!("v3/knock/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.act(&room, "ban", &bob).await.ok();
    bob.post(&format!("v3/knock/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
}

async fn restricted_room(alice: &User<'_>, version: &str, rule: &str) -> (String, String) {
    let allowed = alice.room(json!({ "preset": "public_chat", "name": "Allowed" })).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": allowed, "via": ["hs.test"] }]);
    let rules = json!({ "join_rule": rule, "allow": allow });
    let initial = json!([{ "type": "m.room.join_rules", "state_key": "", "content": rules }]);
    let room = alice.room(json!({ "preset": "public_chat", "room_version": version, "initial_state": initial })).await;
    (allowed, room)
}

async fn restricted_joins(version: &str, rule: &str) {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (allowed, room) = restricted_room(&alice, version, rule).await;
    bob.join(&room).await.refused(403, "M_FORBIDDEN");
    bob.join(&allowed).await.ok();
    let member = |content: Value| (format!("m.room.member/{}", bob.id), content);
    let (path, named) = member(json!({ "membership": "join", "displayname": "Bobby" }));
    bob.put(&format!("v3/rooms/{allowed}/state/{path}"), named).await.ok();
    bob.join(&room).await.ok();
    assert_eq!(alice.member(&room, &bob).await["join_authorised_via_users_server"], alice.id.as_str());
    // From joined to joined nobody needs to vouch.
    let unused = "unused";
    let again = json!({ "membership": "join", "displayname": "Bobby", "join_authorised_via_users_server": unused });
    let (path, again) = member(again);
    bob.put(&format!("v3/rooms/{room}/state/{path}"), again).await.ok();
    bob.leave(&room).await;
    bob.leave(&allowed).await;
    bob.join(&room).await.refused(403, "M_FORBIDDEN");
    alice.act(&room, "invite", &bob).await.ok();
    bob.join(&room).await.ok();
    bob.leave(&room).await;
    bob.join(&allowed).await.ok();
    for allow in [json!(["invalid"]), json!("invalid")] {
        let rules = json!({ "join_rule": rule, "allow": allow });
        alice.set_state(&room, "m.room.join_rules", rules).await.ok();
        let answer = bob.join(&room).await;
        assert_eq!(answer.status, 403, "{}", answer.body);
    }
}

#[tokio::test]
async fn members_of_an_allowed_room_may_join_a_restricted_one() {
    restricted_joins("8", "restricted").await;
    restricted_joins("12", "restricted").await;
}

#[tokio::test]
async fn members_of_an_allowed_room_may_join_one_that_others_knock_at() {
    restricted_joins("10", "knock_restricted").await;
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let (_, room) = restricted_room(&alice, "10", "knock_restricted").await;
    bob.post(&format!("v3/knock/{room}"), json!({})).await.ok();
}

#[tokio::test]
async fn power_decides_what_a_member_may_set() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat", "room_version": "11" })).await;
    bob.join(&room).await.ok();
    let levels = alice.state(&room, "m.room.power_levels").await;
    for key in ["ban", "kick", "redact", "state_default", "events_default", "users_default"] {
        assert!(levels[key].is_i64(), "{key}: {levels}");
    }
    assert_eq!(levels["users"][&alice.id], 100);
    bob.set_state(&room, "m.room.topic", json!({ "topic": "x" })).await.refused(403, "M_FORBIDDEN");
    bob.set_state(&room, "m.room.power_levels", json!({ "users": { &bob.id: 100 } })).await.refused(403, "M_FORBIDDEN");
    bob.put(&format!("v3/rooms/{room}/state/x/{}", alice.id), json!({})).await.refused(403, "M_FORBIDDEN");
    let content = json!({ "invite": 100, "users": { &alice.id: 100, "@random-other-user:their.home": 20 } });
    let set = alice.set_state(&room, "m.room.power_levels", content.clone()).await.ok();
    let id = set["event_id"].as_str().expect("an id");
    assert_eq!(alice.get(&format!("v3/rooms/{room}/event/{id}")).await.ok()["content"], content);
    for content in
        [json!({ "users": { "nobody": 5 } }), json!({ "users": { &alice.id: "100" } }), json!({ "ban": 1.5 })]
    {
        let answer = alice.set_state(&room, "m.room.power_levels", content).await;
        assert!(matches!(answer.status.as_u16(), 400 | 403), "{}", answer.body);
    }
    alice.set_state(&room, "m.room.power_levels", json!({ "users": { &alice.id: 100 } })).await.ok();
    alice.set_state(&room, "m.room.power_levels", json!({})).await.ok();
    alice.set_state(&room, "m.room.power_levels", json!({ "users": {} })).await.refused(403, "M_FORBIDDEN");
    assert!(alice.state(&room, "m.room.power_levels").await["users"].is_null());
}

#[tokio::test]
async fn a_room_that_is_forgotten_is_gone_from_every_list() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    alice.say(&room, "1", "hello").await;
    bob.leave(&room).await;
    let all = &filter(&json!({"room":{"include_leave":true}}));
    assert!(bob.sync_with(all).await["rooms"]["leave"][&room].is_object());
    bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.ok();
    bob.post(&format!("v3/rooms/{room}/forget"), json!({})).await.ok();
    bob.post(&format!("v3/rooms/{room}/forget"), json!({})).await.ok();
    assert!(bob.sync_with(all).await["rooms"].is_null());
    bob.get(&format!("v3/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await.ok();
    assert!(bob.sync(None).await["rooms"]["join"][&room].is_object());
    bob.post(&format!("v3/rooms/{room}/forget"), json!({})).await.refused(400, "M_UNKNOWN");
}
