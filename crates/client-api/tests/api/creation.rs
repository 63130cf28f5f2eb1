//! `POST /createRoom`: what the new room's events say, and what is refused.

use serde_json::{Value, json};

use crate::support::{Site, filter, ids, of_type, types};

#[tokio::test]
async fn a_public_room_has_its_alias_and_leads_there() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let room = alice.room(json!({ "visibility": "public", "room_alias_name": "tea" })).await;
    let found = bob.get("v3/directory/room/%23tea:hs.test").await.ok();
    assert_eq!((&found["room_id"], &found["servers"]), (&json!(room), &json!(["hs.test"])));
    assert_eq!(alice.state(&room, "m.room.canonical_alias").await["alias"], "#tea:hs.test");
    assert_eq!(alice.state(&room, "m.room.join_rules").await["join_rule"], "public");
    assert_eq!(bob.join("%23tea:hs.test").await.ok()["room_id"], room.as_str());
    alice.post("v3/createRoom", json!({ "room_alias_name": "tea" })).await.refused(400, "M_ROOM_IN_USE");
    for bad in ["a b", "a:b", ""] {
        alice.post("v3/createRoom", json!({ "room_alias_name": bad })).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn each_preset_has_its_rules() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    for (preset, join_rule, guests, power) in [
        ("private_chat", "invite", json!("can_join"), Value::Null),
        ("trusted_private_chat", "invite", json!("can_join"), json!(100)),
        // Without an event guests are forbidden.
        ("public_chat", "public", Value::Null, Value::Null),
    ] {
        let room = alice.room(json!({ "preset": preset, "invite": [bob.id], "room_version": "11" })).await;
        assert_eq!(alice.state(&room, "m.room.join_rules").await["join_rule"], join_rule);
        assert_eq!(alice.state(&room, "m.room.history_visibility").await["history_visibility"], "shared");
        let access = alice.get(&format!("v3/rooms/{room}/state/m.room.guest_access")).await;
        assert_eq!(access.body["guest_access"], guests);
        assert_eq!(alice.state(&room, "m.room.power_levels").await["users"][&bob.id], power);
    }
    alice.post("v3/createRoom", json!({ "preset": "other" })).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn the_events_come_in_the_order_that_the_specification_gives() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let initial = json!([
        { "type": "test.first", "content": {} },
        { "type": "m.room.guest_access", "state_key": "", "content": { "guest_access": "forbidden" } },
    ]);
    let room = alice
        .room(json!({
            "name": "Tea", "topic": "green", "invite": [bob.id], "initial_state": initial, "room_alias_name": "t",
            "is_direct": true,
        }))
        .await;
    let sync = alice.sync_with(&filter(&json!({"room":{"timeline":{"limit":50}}}))).await;
    let timeline = &sync["rooms"]["join"][&room]["timeline"];
    assert_eq!(
        types(&timeline["events"]),
        [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "test.first",
            "m.room.guest_access",
            "m.room.name",
            "m.room.topic",
            "m.room.member",
        ]
    );
    assert_eq!(timeline["limited"], false);
    assert_eq!(sync["rooms"]["join"][&room]["state"]["events"], json!([]));
    let invite = &timeline["events"][10];
    assert_eq!(invite["content"]["is_direct"], true);
    let invited = bob.sync(None).await;
    let stripped = invited["rooms"]["invite"][&room]["invite_state"]["events"].as_array().expect("events").clone();
    let own = stripped.iter().find(|event| event["state_key"] == bob.id.as_str()).expect("the invitation");
    assert_eq!((&own["content"]["membership"], &own["content"]["is_direct"]), (&json!("invite"), &json!(true)));
}

#[tokio::test]
async fn a_topic_is_written_plainly_and_richly_and_wins_over_the_initial_state() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let initial = json!([{ "type": "m.room.topic", "state_key": "", "content": { "topic": "Shenanigans" } }]);
    let plain = alice.room(json!({ "initial_state": initial })).await;
    assert_eq!(alice.state(&plain, "m.room.topic").await, json!({ "topic": "Shenanigans" }));
    let rich = alice.room(json!({ "initial_state": initial, "topic": "Test Room", "name": "Test" })).await;
    let content = alice.state(&rich, "m.room.topic").await;
    assert_eq!(content["topic"], "Test Room");
    assert_eq!(content["m.topic"]["m.text"], json!([{ "body": "Test Room" }]));
    assert_eq!(alice.state(&rich, "m.room.name").await, json!({ "name": "Test" }));
}

#[tokio::test]
async fn the_version_is_chosen_by_its_own_key_only() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let capabilities = alice.get("v3/capabilities").await.ok();
    for version in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"] {
        assert_eq!(capabilities["capabilities"]["m.room_versions"]["available"][version], "stable");
        let room = alice.room(json!({ "room_version": version, "preset": "public_chat" })).await;
        let create = alice.state(&room, "m.room.create").await;
        // Version 1 may be left out of the event, but never is another.
        assert_eq!(create["room_version"], version);
        assert_eq!(create.get("creator").is_some(), version.parse::<u8>().expect("a number") < 11);
    }
    let content = json!({ "test": "azerty", "room_version": "test", "type": "m.space" });
    let room = alice.room(json!({ "creation_content": content })).await;
    let sync = alice.sync_with(&filter(&json!({"room":{"timeline":{"limit":50}}}))).await;
    let first = &sync["rooms"]["join"][&room]["timeline"]["events"][0];
    let expected = json!({ "test": "azerty", "room_version": "12", "type": "m.space" });
    assert_eq!((&first["type"], &first["content"]), (&json!("m.room.create"), &expected));
}

#[tokio::test]
async fn power_levels_can_be_overridden_but_not_so_that_the_creator_is_left_out() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let levels = json!({ "users_default": 100, "users": { &alice.id: 100 }, "events": {}, "notifications": {} });
    let wish = json!({ "preset": "public_chat", "room_version": "11", "power_level_content_override": levels });
    let room = alice.room(wish).await;
    assert_eq!(alice.state(&room, "m.room.power_levels").await["users_default"], 100);
    let lower = json!({ "users_default": 40, "users": { &alice.id: 100 }, "events": {}, "notifications": {} });
    alice.set_state(&room, "m.room.power_levels", lower).await.ok();
    let without = json!({ "power_level_content_override": { "users": {} }, "room_version": "11" });
    let answer = alice.post("v3/createRoom", without).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn a_request_that_the_rooms_own_rules_refuse_makes_no_room() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let bad = [
        (json!([{ "type": "m.room.create", "content": {} }]), "M_BAD_JSON"),
        (
            json!([{ "type": "m.room.member", "state_key": "@bob:hs.test", "content": { "membership": "join" } }]),
            "M_INVALID_ROOM_STATE",
        ),
    ];
    for (initial, errcode) in bad {
        alice.post("v3/createRoom", json!({ "initial_state": initial })).await.refused(400, errcode);
    }
    alice.post("v3/createRoom", json!({ "initial_state": [{ "content": {} }] })).await.refused(400, "M_MISSING_PARAM");
    let third = json!([{ "id_server": "x", "id_access_token": "x", "medium": "email", "address": "a@b" }]);
    alice.post("v3/createRoom", json!({ "invite_3pid": third })).await.refused(403, "M_THREEPID_DENIED");
    assert_eq!(alice.get("v3/joined_rooms").await.ok()["joined_rooms"], json!([]));
}

#[tokio::test]
async fn the_creators_sync_reports_the_room() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let before = alice.sync(None).await;
    let room = alice.room(json!({})).await;
    let sync = alice.sync(Some(&before["next_batch"])).await;
    let part = &sync["rooms"]["join"][&room];
    let create = of_type(&part["timeline"]["events"], "m.room.create");
    assert_eq!((&create["sender"], &create["state_key"]), (&json!(alice.id), &json!("")));
    let member = of_type(&part["timeline"]["events"], "m.room.member");
    assert_eq!((&member["sender"], &member["state_key"]), (&json!(alice.id), &json!(alice.id)));
    alice.set_state(&room, "m.room.topic", json!({ "topic": "tea" })).await.ok();
    let next = alice.sync(Some(&sync["next_batch"])).await;
    let topic = of_type(&next["rooms"]["join"][&room]["timeline"]["events"], "m.room.topic");
    assert_eq!((&topic["state_key"], &topic["content"]["topic"]), (&json!(""), &json!("tea")));
}

#[tokio::test]
async fn the_same_state_twice_is_one_event() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({})).await;
    let first = alice.set_state(&room, "a.test", json!({ "a": "b" })).await.ok();
    let second = alice.set_state(&room, "a.test", json!({ "a": "b" })).await.ok();
    assert_eq!(first["event_id"], second["event_id"]);
    let page = alice.get(&format!("v3/rooms/{room}/messages?dir=b&limit=2")).await.ok();
    assert_eq!(ids(&page["chunk"])[0], first["event_id"].as_str().expect("an id"));
    assert_ne!(types(&page["chunk"])[1], "a.test");
}
