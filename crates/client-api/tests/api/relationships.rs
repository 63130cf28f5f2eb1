//! Walks over events that relate to each other (MSC2836).

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Site, User, bodies, ids};

/// Answers an event in the way of the MSC; the event id.
async fn answer(user: &User<'_>, room: &str, body: &str, to: &str) -> String {
    let content =
        json!({ "msgtype": "m.text", "body": body, "m.relationship": { "rel_type": "m.reference", "event_id": to } });
    user.site.parts.clock.advance(std::time::Duration::from_millis(1));
    let sent = user.put(&format!("v3/rooms/{room}/send/m.room.message/{body}"), content).await.ok();
    sent["event_id"].as_str().expect("an id").to_owned()
}

async fn walk(user: &User<'_>, from: &str, mut options: Value) -> Value {
    options["event_id"] = json!(from);
    user.post("unstable/event_relationships", options).await.ok()
}

#[tokio::test]
async fn a_tree_of_answers_is_walked_in_every_way() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let top = alice.say(&room, "a", "a").await;
    let below = answer(&alice, &room, "b", &top).await;
    let left = answer(&alice, &room, "c", &below).await;
    let right = answer(&alice, &room, "d", &below).await;
    let leaf = answer(&alice, &room, "e", &left).await;
    for (from, options, found) in [
        (&right, json!({ "include_parent": true }), vec!["d", "b"]),
        (&below, json!({ "include_parent": true, "recent_first": false }), vec!["b", "a", "c", "d", "e"]),
        (&top, json!({}), vec!["a", "b", "d", "c", "e"]),
        (&top, json!({ "recent_first": false, "depth_first": true }), vec!["a", "b", "c", "e", "d"]),
        (&top, json!({ "max_depth": 1 }), vec!["a", "b"]),
        (&top, json!({ "max_depth": -1, "max_breadth": 1 }), vec!["a", "b", "d"]),
        (&below, json!({ "max_depth": 0, "include_children": true }), vec!["b", "d", "c"]),
        (&leaf, json!({ "direction": "up" }), vec!["e", "c", "b", "a"]),
    ] {
        let walked = walk(&alice, from, options.clone()).await;
        assert_eq!((bodies(&walked["events"]), &walked["limited"]), (found, &json!(false)), "{options}");
    }
    let limited = walk(&alice, &top, json!({ "limit": 2 })).await;
    assert_eq!((ids(&limited["events"]), &limited["limited"]), (vec![&*top, &*below], &json!(true)));
    let unsigned = &limited["events"][1]["unsigned"];
    let mut children = [&*left, &*right];
    children.sort_unstable();
    let hash = STANDARD_NO_PAD.encode(Sha256::digest(children.concat()));
    assert_eq!((&unsigned["children"], &unsigned["children_hash"]), (&json!({ "m.reference": 2 }), &json!(hash)));
}

#[tokio::test]
async fn a_walk_shows_only_what_one_may_see() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "preset": "public_chat" })).await;
    let root = alice.say(&room, "root", "root").await;
    let seen = answer(&alice, &room, "seen", &root).await;
    let refused = |user: &User<'_>, body: Value| {
        let user = user.token.clone();
        let site = &site;
        async move {
            let path = "/_matrix/client/unstable/event_relationships";
            site.raw(http::Method::POST, path, Some(&user), body.to_string()).await
        }
    };
    refused(&bob, json!({ "event_id": root })).await.refused(404, "M_NOT_FOUND");
    refused(&alice, json!({ "event_id": "$none" })).await.refused(404, "M_NOT_FOUND");
    refused(&alice, json!({})).await.refused(400, "M_MISSING_PARAM");
    refused(&alice, json!({ "event_id": root, "direction": "left" })).await.refused(400, "M_INVALID_PARAM");
    bob.join(&room).await.ok();
    bob.leave(&room).await;
    answer(&alice, &room, "later", &seen).await;
    assert_eq!(bodies(&walk(&bob, &root, json!({})).await["events"]), ["root", "seen"]);
    assert_eq!(bodies(&walk(&alice, &root, json!({})).await["events"]), ["root", "seen", "later"]);
}
