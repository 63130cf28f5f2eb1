//! Aliases: who makes them, whom they lead where, and what a room may call itself.

use http::Method;
use serde_json::json;

use crate::support::Site;

#[tokio::test]
async fn an_alias_is_made_by_a_member_found_by_all_and_removed_by_its_maker() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let path = "v3/directory/room/%23tea:hs.test";
    let body = json!({ "room_id": room });
    bob.put(path, body.clone()).await.refused(403, "M_FORBIDDEN");
    alice.put(path, body.clone()).await.ok();
    alice.put(path, body.clone()).await.refused(409, "M_UNKNOWN");
    let found = site.raw(Method::GET, &format!("/_matrix/client/{path}"), None, "").await.ok();
    assert_eq!(found["room_id"], room.as_str());
    bob.delete(path, json!({})).await.refused(403, "M_FORBIDDEN");
    alice.delete(path, json!({})).await.ok();
    alice.delete(path, json!({})).await.refused(404, "M_NOT_FOUND");
    site.raw(Method::GET, &format!("/_matrix/client/{path}"), None, "").await.refused(404, "M_NOT_FOUND");
    for bad in ["tea:hs.test", "%23tea", "%21tea:hs.test"] {
        alice.put(&format!("v3/directory/room/{bad}"), body.clone()).await.refused(400, "M_INVALID_PARAM");
        alice.get(&format!("v3/directory/room/{bad}")).await.refused(400, "M_INVALID_PARAM");
    }
    alice.put("v3/directory/room/%23tea:elsewhere.test", body).await.refused(400, "M_INVALID_PARAM");
    alice.put(path, json!({ "room_id": "nowhere" })).await.refused(400, "M_BAD_JSON");
    alice.put(path, json!({})).await.refused(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn a_room_calls_itself_only_what_leads_to_it() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let (room, other) = (alice.room(json!({})).await, alice.room(json!({ "room_alias_name": "other" })).await);
    alice.put("v3/directory/room/%23tea:hs.test", json!({ "room_id": room })).await.ok();
    let name = |content| alice.set_state(&room, "m.room.canonical_alias", content);
    name(json!({ "alias": "#tea:hs.test", "alt_aliases": ["#tea:hs.test"] })).await.ok();
    name(json!({ "alias": "#none:hs.test" })).await.refused(400, "M_BAD_ALIAS");
    name(json!({ "alt_aliases": ["#other:hs.test"] })).await.refused(400, "M_BAD_ALIAS");
    name(json!({ "alias": "tea" })).await.refused(400, "M_INVALID_PARAM");
    name(json!({ "alt_aliases": ["%tea:hs.test"] })).await.refused(400, "M_INVALID_PARAM");
    name(json!({ "alias": 5 })).await.refused(400, "M_BAD_JSON");
    assert_eq!(alice.state(&room, "m.room.canonical_alias").await["alias"], "#tea:hs.test");
    // Without its alias the room forgets its name, too.
    alice.delete("v3/directory/room/%23tea:hs.test", json!({})).await.ok();
    assert!(alice.state(&room, "m.room.canonical_alias").await["alias"].is_null());
    assert_eq!(alice.state(&other, "m.room.canonical_alias").await["alias"], "#other:hs.test");
}

#[tokio::test]
async fn messages_that_pose_as_state_are_refused() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    for (kind, content) in
        [("m.room.create", json!({ "room_version": "12" })), ("m.room.member", json!({ "membership": "join" }))]
    {
        let answer = alice.put(&format!("v3/rooms/{room}/send/{kind}/1"), content).await;
        assert!(matches!(answer.status.as_u16(), 400 | 403), "{kind}: {}", answer.body);
    }
    for (key, content) in [("nobody", json!({ "membership": "join" })), ("", json!({ "membership": "join" }))] {
        let answer = alice.put(&format!("v3/rooms/{room}/state/m.room.member/{key}"), content).await;
        assert!(matches!(answer.status.as_u16(), 400 | 403), "{key}: {}", answer.body);
    }
    let own = format!("v3/rooms/{room}/state/m.room.member/{}", alice.id);
    for content in [json!({}), json!({ "membership": 5 }), json!({ "membership": "away" })] {
        let answer = alice.put(&own, content.clone()).await;
        assert!(matches!(answer.status.as_u16(), 400 | 403), "{content}: {}", answer.body);
    }
    assert_eq!(alice.member(&room, &alice).await["membership"], "join");
}

#[tokio::test]
async fn the_aliases_of_a_room_are_for_its_members_and_of_an_open_one_for_all() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({})).await;
    let path = format!("v3/rooms/{room}/aliases");
    assert_eq!(alice.get(&path).await.ok(), json!({ "aliases": [] }));
    alice.put("v3/directory/room/%23tea:hs.test", json!({ "room_id": room })).await.ok();
    assert_eq!(alice.get(&path).await.ok(), json!({ "aliases": ["#tea:hs.test"] }));
    bob.get(&path).await.refused(403, "M_FORBIDDEN");
    bob.get("v3/rooms/!nowhere:hs.test/aliases").await.refused(403, "M_FORBIDDEN");
    alice.set_state(&room, "m.room.history_visibility", json!({ "history_visibility": "world_readable" })).await.ok();
    assert_eq!(bob.get(&path).await.ok(), json!({ "aliases": ["#tea:hs.test"] }));
    let long = format!("v3/directory/room/%23{}:hs.test", "x".repeat(300));
    alice.put(&long, json!({ "room_id": room })).await.refused(400, "M_INVALID_PARAM");
    bob.get(&long).await.refused(400, "M_INVALID_PARAM");
}
