//! The tree of rooms below a space, and previews of single rooms.

use serde_json::{Value, json};

use crate::support::{Site, User};

async fn space(user: &User<'_>, more: Value) -> String {
    let mut body = json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } });
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    user.room(body).await
}

async fn link(user: &User<'_>, parent: &str, child: &str, content: Value) {
    user.site.parts.clock.advance(std::time::Duration::from_millis(1));
    user.put(&format!("v3/rooms/{parent}/state/m.space.child/{child}"), content).await.ok();
}

fn via() -> Value {
    json!({ "via": ["hs.test"] })
}

async fn tree(user: &User<'_>, root: &str, query: &str) -> Value {
    user.get(&format!("v1/rooms/{root}/hierarchy?{query}")).await.ok()
}

fn rooms(page: &Value) -> Vec<&str> {
    page["rooms"].as_array().expect("rooms").iter().map(|room| room["room_id"].as_str().expect("an id")).collect()
}

fn children<'a>(page: &'a Value, room: &str) -> Vec<&'a str> {
    let room = page["rooms"].as_array().expect("rooms").iter().find(|entry| entry["room_id"] == room).expect("shown");
    room["children_state"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["state_key"].as_str().expect("a key"))
        .collect()
}

/// A space with a room, a space with a space with two rooms, and a room: `[root, r1, ss1, ss2, r3, r4, r2]`, the order of the tree.
async fn planted(alice: &User<'_>, bob: &User<'_>) -> [String; 7] {
    let root = space(alice, json!({ "name": "Root" })).await;
    let (ss1, ss2) = (space(alice, json!({ "topic": "below" })).await, space(alice, json!({})).await);
    let public = || json!({ "preset": "public_chat" });
    let (r1, r2, r3) = (alice.room(public()).await, alice.room(public()).await, alice.room(public()).await);
    let r4 = bob.room(public()).await;
    let suggested = json!({ "via": ["hs.test"], "suggested": true });
    link(alice, &root, &r1, suggested.clone()).await;
    link(alice, &root, &ss1, via()).await;
    link(alice, &root, &r2, suggested).await;
    // No space: it has no children, whatever it says.
    link(alice, &r2, &r4, via()).await;
    link(alice, &ss1, &ss2, via()).await;
    link(alice, &ss2, &r3, via()).await;
    link(alice, &ss2, &r4, via()).await;
    // A circle is walked once.
    link(alice, &ss2, &root, via()).await;
    [root, r1, ss1, ss2, r3, r4, r2]
}

#[tokio::test]
async fn a_tree_is_shown_depth_first_as_far_as_asked() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let all = planted(&alice, &bob).await;
    let [root, r1, ss1, ss2, r3, r4, r2] = &all;
    let whole = tree(&alice, root, "").await;
    assert_eq!(rooms(&whole), all);
    assert_eq!(whole["next_batch"], Value::Null);
    assert_eq!(children(&whole, root), [r1, ss1, r2]);
    assert_eq!(children(&whole, ss2), [r3, r4, root]);
    assert!(children(&whole, r2).is_empty(), "no space");
    let first = &whole["rooms"][0];
    assert_eq!(
        (&first["name"], &first["room_type"], &first["num_joined_members"]),
        (&json!("Root"), &json!("m.space"), &json!(1))
    );
    let event = &first["children_state"][0];
    assert_eq!(
        (&event["type"], &event["sender"], &event["content"]["suggested"]),
        (&json!("m.space.child"), &json!(alice.id), &json!(true))
    );
    assert!(event["origin_server_ts"].is_u64(), "{event}");

    let shallow = tree(&alice, root, "max_depth=1").await;
    assert_eq!(rooms(&shallow), [root, r1, ss1, r2]);
    assert_eq!(children(&shallow, ss1), [ss2], "what is below is still named");
    assert_eq!(rooms(&tree(&alice, root, "max_depth=0").await), [root]);
    let suggested = tree(&alice, root, "suggested_only=true").await;
    assert_eq!(rooms(&suggested), [root, r1, r2]);
    assert_eq!(children(&suggested, root), [r1, r2]);

    // Without its servers a child is none.
    alice.put(&format!("v3/rooms/{root}/state/m.space.child/{ss1}"), json!({})).await.ok();
    assert_eq!(rooms(&tree(&alice, root, "").await), [root, r1, r2]);
}

#[tokio::test]
async fn pages_of_a_tree_follow_each_other_and_belong_to_one_request() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let all = planted(&alice, &bob).await;
    let [root, r1, ss1, ss2, r3, r4, r2] = &all;
    let first = tree(&alice, root, "limit=4").await;
    assert_eq!(rooms(&first), [root, r1, ss1, ss2]);
    let token = first["next_batch"].as_str().expect("a token");
    let second = tree(&alice, root, &format!("limit=2&from={token}")).await;
    assert_eq!(rooms(&second), [r3, r4]);
    let last = second["next_batch"].as_str().expect("a token");
    let third = tree(&alice, root, &format!("from={last}")).await;
    assert_eq!((rooms(&third), &third["next_batch"]), (vec![r2.as_str()], &Value::Null));

    let path = format!("v1/rooms/{root}/hierarchy?");
    for changed in ["&suggested_only=true", "&max_depth=2"] {
        alice.get(&format!("{path}from={token}{changed}")).await.refused(400, "M_INVALID_PARAM");
    }
    bob.get(&format!("{path}from={token}")).await.refused(400, "M_INVALID_PARAM");
    alice.get(&format!("v1/rooms/{ss1}/hierarchy?from={token}")).await.refused(400, "M_INVALID_PARAM");
    for bad in ["from=nonsense", "from=", "limit=0", "limit=-1", "max_depth=-1", "suggested_only=maybe"] {
        alice.get(&format!("{path}{bad}")).await.refused(400, "M_INVALID_PARAM");
    }
    // A room that was shown goes: the next page begins where it would have.
    alice.put(&format!("v3/rooms/{root}/state/m.space.child/{r1}"), json!({})).await.ok();
    assert_eq!(rooms(&tree(&alice, root, &format!("from={token}")).await), [r3, r4, r2]);
}

#[tokio::test]
async fn children_stand_in_the_order_that_the_specification_gives() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let root = space(&alice, json!({})).await;
    let mut ids = Vec::new();
    let long = "x".repeat(51);
    for order in [None, Some("b"), Some("a"), Some("tab\t"), Some(" "), Some(long.as_str())] {
        let child = alice.room(json!({})).await;
        let content = order.map_or_else(via, |order| json!({ "via": ["hs.test"], "order": order }));
        link(&alice, &root, &child, content).await;
        ids.push(child);
    }
    let by_order = [&ids[4], &ids[2], &ids[1], &ids[0], &ids[3], &ids[5]];
    assert_eq!(children(&tree(&alice, &root, "").await, &root), by_order, "an order that is none counts for nothing");
}

#[tokio::test]
async fn rooms_that_one_may_not_know_of_are_left_out_with_all_below() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let root = space(&alice, json!({})).await;
    let closed = space(&alice, json!({ "preset": "private_chat" })).await;
    let (inner, readable) = (alice.room(json!({})).await, alice.room(json!({})).await);
    alice
        .set_state(&readable, "m.room.history_visibility", json!({ "history_visibility": "world_readable" }))
        .await
        .ok();
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": root }] });
    let restricted = alice.room(json!({})).await;
    alice.set_state(&restricted, "m.room.join_rules", rule).await.ok();
    let knock = alice.room(json!({})).await;
    alice.set_state(&knock, "m.room.join_rules", json!({ "join_rule": "knock" })).await.ok();
    for (parent, child) in
        [(&root, &closed), (&root, &knock), (&closed, &inner), (&closed, &readable), (&root, &restricted)]
    {
        link(&alice, parent, child, via()).await;
    }
    assert_eq!(rooms(&tree(&bob, &root, "").await), [&root, &knock], "Bob is in no room of the restricted one");
    bob.join(&root).await.ok();
    assert_eq!(rooms(&tree(&bob, &root, "").await), [&root, &knock, &restricted]);
    bob.get(&format!("v1/rooms/{closed}/hierarchy")).await.refused(403, "M_FORBIDDEN");
    bob.get("v1/rooms/!nowhere:hs.test/hierarchy").await.refused(403, "M_FORBIDDEN");
    alice.act(&closed, "invite", &bob).await.ok();
    assert_eq!(rooms(&tree(&bob, &root, "").await), [&root, &closed, &readable, &knock, &restricted]);
    alice.act(&root, "ban", &bob).await.ok();
    bob.get(&format!("v1/rooms/{root}/hierarchy")).await.refused(403, "M_FORBIDDEN");
    // A room that everybody has left is nobody's to show.
    alice.leave(&knock).await;
    assert!(!rooms(&tree(&alice, &root, "").await).contains(&knock.as_str()));
}

#[tokio::test]
async fn a_preview_says_what_the_room_says_and_how_one_stands_to_it() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let hall = space(&alice, json!({ "room_alias_name": "hall", "name": "Hall", "topic": "All of us" })).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": hall }] });
    let encryption = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    let state = json!([
        { "type": "m.room.join_rules", "content": rule },
        { "type": "m.room.encryption", "content": encryption },
    ]);
    let den = alice.room(json!({ "room_version": "8", "initial_state": state })).await;
    let shown = bob.get("v1/room_summary/%23hall:hs.test").await.ok();
    let expected = json!({
        "room_id": hall, "name": "Hall", "topic": "All of us", "canonical_alias": "#hall:hs.test", "room_type": "m.space",
        "join_rule": "public", "num_joined_members": 1, "world_readable": false, "guest_can_join": false,
        "room_version": "12", "membership": "leave",
    });
    assert_eq!(shown, expected);
    let anyone = site.raw(http::Method::GET, &format!("/_matrix/client/v1/room_summary/{hall}"), None, "").await.ok();
    assert_eq!((&anyone["room_id"], &anyone["membership"]), (&json!(hall), &Value::Null));
    let path = format!("/_matrix/client/v1/room_summary/{den}");
    site.raw(http::Method::GET, &path, None, "").await.refused(404, "M_NOT_FOUND");
    bob.get(&format!("v1/room_summary/{den}")).await.refused(404, "M_NOT_FOUND");
    bob.get("v1/room_summary/!nowhere:hs.test").await.refused(404, "M_NOT_FOUND");
    bob.get("v1/room_summary/%23nowhere:hs.test").await.refused(404, "M_NOT_FOUND");
    bob.get("v1/room_summary/nowhere").await.refused(400, "M_INVALID_PARAM");
    bob.join(&hall).await.ok();
    for path in
        [format!("unstable/im.nheko.summary/rooms/{den}/summary"), format!("unstable/im.nheko.summary/summary/{den}")]
    {
        let shown = bob.get(&path).await.ok();
        assert_eq!((&shown["allowed_room_ids"], &shown["membership"]), (&json!([hall]), &json!("leave")));
        assert_eq!(
            (&shown["im.nheko.summary.version"], &shown["im.nheko.summary.room_version"]),
            (&json!("8"), &json!("8"))
        );
        assert_eq!(shown["im.nheko.summary.encryption"], "m.megolm.v1.aes-sha2");
    }
    // What is said last is shown at once, and what is taken back is not.
    let renamed = alice.set_state(&hall, "m.room.name", json!({ "name": "Great hall" })).await.ok();
    assert_eq!(bob.get(&format!("v1/room_summary/{hall}")).await.ok()["name"], "Great hall");
    let event = renamed["event_id"].as_str().expect("an id");
    alice.put(&format!("v3/rooms/{hall}/redact/{event}/1"), json!({})).await.ok();
    assert_eq!(bob.get(&format!("v1/room_summary/{hall}")).await.ok()["name"], Value::Null);
    assert_eq!(bob.get(&format!("v1/room_summary/{hall}")).await.ok()["num_joined_members"], 2);
}
