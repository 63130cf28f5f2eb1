//! Rooms that are replaced by rooms of another version.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Site, User, of_type};

async fn upgrade(user: &User<'_>, room: &str, body: Value) -> Answer {
    user.post(&format!("v3/rooms/{room}/upgrade"), body).await
}

async fn upgraded(user: &User<'_>, room: &str, version: &str) -> String {
    let answer = upgrade(user, room, json!({ "new_version": version })).await.ok();
    answer["replacement_room"].as_str().expect("a room id").to_owned()
}

/// The whole state of a room as one of its members sees it.
async fn state_of(user: &User<'_>, room: &str) -> Value {
    user.get(&format!("v3/rooms/{room}/state")).await.ok()
}

#[tokio::test]
async fn the_new_room_takes_over_what_the_old_one_said() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let allow = json!([{ "type": "m.room_membership", "room_id": "!other:hs.test" }]);
    let state = json!([
        { "type": "m.room.join_rules", "content": { "join_rule": "restricted", "allow": allow } },
        { "type": "m.room.server_acl", "content": { "allow": ["*"], "deny": ["bad.test"] } },
        { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
        { "type": "m.room.history_visibility", "content": { "history_visibility": "joined" } },
        { "type": "m.space.child", "state_key": "!child:hs.test", "content": { "via": ["hs.test"] } },
        { "type": "m.space.child", "state_key": "!gone:hs.test", "content": {} },
        { "type": "m.space.parent", "state_key": "!parent:hs.test", "content": { "via": ["hs.test"] } },
        { "type": "org.example.widget", "content": { "mine": true } },
        { "type": "m.room.pinned_events", "content": { "pinned": ["$an:event"] } },
    ]);
    let body = json!({
        "room_version": "11", "name": "Den", "topic": "Cubs", "initial_state": state,
        "creation_content": { "type": "m.space", "m.federate": false, "org.example.x": 1 },
    });
    let old = alice.room(body).await;
    let ban = json!({ "user_id": bob.id, "reason": "noise" });
    alice.post(&format!("v3/rooms/{old}/ban"), ban).await.ok();
    let last = alice.say(&old, "1", "bye").await;
    let new = upgraded(&alice, &old, "11").await;

    assert_eq!(alice.state(&old, "m.room.tombstone").await["replacement_room"], new.as_str());
    let create = alice.state(&new, "m.room.create").await;
    assert_eq!(create["predecessor"], json!({ "room_id": old, "event_id": last }));
    assert_eq!(
        (&create["type"], &create["m.federate"], &create["org.example.x"]),
        (&json!("m.space"), &json!(false), &Value::Null)
    );
    for (kind, key, expected) in [
        ("m.room.name", "name", json!("Den")),
        ("m.room.topic", "topic", json!("Cubs")),
        ("m.room.join_rules", "allow", allow),
        ("m.room.server_acl", "deny", json!(["bad.test"])),
        ("m.room.encryption", "algorithm", json!("m.megolm.v1.aes-sha2")),
        ("m.room.history_visibility", "history_visibility", json!("joined")),
        ("m.room.guest_access", "guest_access", json!("can_join")),
        ("m.room.power_levels", "users", json!({ (alice.id.as_str()): 100 })),
    ] {
        assert_eq!(alice.state(&new, kind).await[key], expected, "{kind}");
    }
    let all = state_of(&alice, &new).await;
    assert_eq!(crate::support::state_keys(&all, "m.space.child"), ["!child:hs.test"]);
    assert_eq!(crate::support::state_keys(&all, "m.space.parent"), ["!parent:hs.test"]);
    assert_eq!(alice.member(&new, &bob).await, json!({ "membership": "ban", "reason": "noise" }));
    let kinds = crate::support::types(&all);
    assert!(!kinds.contains(&"org.example.widget") && !kinds.contains(&"m.room.pinned_events"), "{kinds:?}");
}

#[tokio::test]
async fn the_old_room_is_closed_and_its_names_lead_to_the_new_one() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let old = alice.room(json!({ "visibility": "public", "room_version": "10", "room_alias_name": "den" })).await;
    alice.put("v3/directory/room/%23cave:hs.test", json!({ "room_id": old })).await.ok();
    let names = json!({ "alias": "#den:hs.test", "alt_aliases": ["#cave:hs.test"] });
    alice.set_state(&old, "m.room.canonical_alias", names.clone()).await.ok();
    bob.join(&old).await.ok();
    let new = upgraded(&alice, &old, "12").await;
    // From this version on no event of the old room is named.
    assert_eq!(alice.state(&new, "m.room.create").await["predecessor"], json!({ "room_id": old }));

    let leads_to = async |alias: &str| {
        let path = format!("/_matrix/client/v3/directory/room/%23{alias}:hs.test");
        site.raw(Method::GET, &path, None, "").await.ok()["room_id"].clone()
    };
    assert_eq!((leads_to("den").await, leads_to("cave").await), (json!(new), json!(new)));
    assert_eq!(alice.state(&new, "m.room.canonical_alias").await, names);
    assert_eq!(alice.state(&old, "m.room.canonical_alias").await, json!({ "alt_aliases": [] }));
    assert_eq!(alice.get(&format!("v3/rooms/{old}/aliases")).await.ok(), json!({ "aliases": [] }));
    let listed = alice.get("v3/publicRooms").await.ok();
    assert_eq!((&listed["chunk"][0]["room_id"], listed["chunk"].as_array().map(Vec::len)), (&json!(new), Some(1)));

    let text = json!({ "msgtype": "m.text", "body": "still here" });
    bob.put(&format!("v3/rooms/{old}/send/m.room.message/1"), text.clone()).await.refused(403, "M_FORBIDDEN");
    bob.act(&old, "invite", &alice).await.refused(403, "M_FORBIDDEN");
    let levels = alice.state(&old, "m.room.power_levels").await;
    assert_eq!((&levels["events_default"], &levels["invite"]), (&json!(50), &json!(50)));
    // In the new one all is as it was, but that its creator stands above all and in no list.
    let levels = alice.state(&new, "m.room.power_levels").await;
    assert_eq!((&levels["events_default"], &levels["users"]), (&json!(0), &json!({})));
    assert_eq!(levels["events"]["m.room.tombstone"], 150);
    bob.join(&new).await.ok();
    bob.put(&format!("v3/rooms/{new}/send/m.room.message/2"), text).await.ok();
    // One sync tells Bob of the tombstone.
    let sync = bob.sync(None).await;
    let room = &sync["rooms"]["join"][&old];
    let events: Vec<_> = [&room["timeline"]["events"], &room["state"]["events"]]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .cloned()
        .collect();
    assert_eq!(of_type(&json!(events), "m.room.tombstone")["content"]["replacement_room"], new.as_str());
}

#[tokio::test]
async fn creators_are_those_whom_the_upgrade_names() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let creation = json!({ "additional_creators": [bob.id] });
    let old = alice.room(json!({ "room_version": "12", "creation_content": creation, "preset": "public_chat" })).await;
    let new = upgraded(&alice, &old, "12").await;
    assert_eq!(alice.state(&new, "m.room.create").await["additional_creators"], Value::Null, "not taken over");
    bob.join(&old).await.ok();
    let body = json!({ "new_version": "12", "additional_creators": [carol.id, bob.id] });
    let second = upgrade(&bob, &old, body).await.ok()["replacement_room"].as_str().expect("an id").to_owned();
    assert_eq!(bob.state(&second, "m.room.create").await["additional_creators"], json!([carol.id]));
    // Whoever stood above all levels gets the highest one where there is no such standing.
    let third = upgraded(&bob, &second, "11").await;
    let users = bob.state(&third, "m.room.power_levels").await["users"].clone();
    assert_eq!(users, json!({ (bob.id.as_str()): 150, (carol.id.as_str()): 150 }), "what a tombstone needs");
    let body = json!({ "new_version": "11", "additional_creators": [carol.id] });
    let fourth = upgrade(&bob, &third, body).await.ok()["replacement_room"].as_str().expect("an id").to_owned();
    assert_eq!(bob.state(&fourth, "m.room.create").await["additional_creators"], Value::Null, "no such thing there");
}

#[tokio::test]
async fn a_user_with_little_power_makes_a_room_in_which_they_have_as_little() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let levels = json!({ "events": { "m.room.tombstone": 0 }, "users": { (alice.id.as_str()): 100 }, "invite": 50 });
    let body =
        json!({ "room_version": "9", "preset": "public_chat", "name": "Den", "power_level_content_override": levels });
    let old = alice.room(body).await;
    bob.join(&old).await.ok();
    let new = upgraded(&bob, &old, "10").await;
    assert_eq!(bob.state(&new, "m.room.name").await["name"], "Den");
    assert_eq!(bob.state(&new, "m.room.power_levels").await["users"], json!({ (alice.id.as_str()): 100 }));
    bob.set_state(&new, "m.room.name", json!({ "name": "Mine" })).await.refused(403, "M_FORBIDDEN");
    assert_eq!(alice.state(&old, "m.room.power_levels").await["events_default"], 0, "Bob may not close the old room");
}

#[tokio::test]
async fn what_a_version_does_not_know_becomes_something_that_it_does() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for (rule, from, to, expected) in [
        ("knock_restricted", "12", "9", "restricted"),
        ("knock_restricted", "12", "7", "invite"),
        ("restricted", "12", "7", "invite"),
        ("knock", "12", "6", "invite"),
        ("knock", "12", "7", "knock"),
        ("public", "12", "1", "public"),
    ] {
        let old = alice.room(json!({ "room_version": from })).await;
        alice.set_state(&old, "m.room.join_rules", json!({ "join_rule": rule })).await.ok();
        let new = upgraded(&alice, &old, to).await;
        assert_eq!(alice.state(&new, "m.room.join_rules").await["join_rule"], expected, "{rule} in {to}");
        assert_eq!(alice.state(&new, "m.room.create").await["room_version"], to);
    }
}

#[tokio::test]
async fn an_upgrade_that_is_not_allowed_changes_nothing() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let old = alice.room(json!({ "preset": "public_chat", "room_alias_name": "den" })).await;
    let before = (alice.sync(None).await, state_of(&alice, &old).await);
    let ask = async |user: &User<'_>, body: Value| upgrade(user, &old, body).await;
    ask(&bob, json!({ "new_version": "12" })).await.refused(403, "M_FORBIDDEN");
    bob.join(&old).await.ok();
    ask(&bob, json!({ "new_version": "12" })).await.refused(403, "M_FORBIDDEN");
    bob.leave(&old).await;
    ask(&alice, json!({ "new_version": "nonsense" })).await.refused(400, "M_UNSUPPORTED_ROOM_VERSION");
    ask(&alice, json!({})).await.refused(400, "M_MISSING_PARAM");
    ask(&alice, json!({ "new_version": 12 })).await.refused(400, "M_BAD_JSON");
    ask(&alice, json!({ "new_version": "12", "additional_creators": ["bob"] })).await.refused(400, "M_BAD_JSON");
    upgrade(&alice, "!nowhere:hs.test", json!({ "new_version": "12" })).await.refused(404, "M_NOT_FOUND");
    upgrade(&alice, "nowhere", json!({ "new_version": "12" })).await.refused(400, "M_INVALID_PARAM");
    let rooms = |sync: &Value| sync["rooms"]["join"].as_object().map_or(0, serde_json::Map::len);
    assert_eq!(rooms(&alice.sync(None).await), rooms(&before.0));
    let kinds = |state: &Value| crate::support::types(state).iter().filter(|kind| **kind != "m.room.member").count();
    assert_eq!(kinds(&state_of(&alice, &old).await), kinds(&before.1));
}

#[tokio::test]
async fn settings_follow_those_who_move_whoever_made_the_new_room() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    for by_hand in [true, false] {
        let old = alice.room(json!({ "preset": "public_chat", "room_version": "10" })).await;
        bob.join(&old).await.ok();
        for user in [&alice, &bob] {
            let rule = format!("v3/pushrules/global/room/{}", crate::support::url(&old));
            user.put(&rule, json!({ "actions": ["dont_notify"] })).await.ok();
            let direct = format!("v3/user/{}/account_data/m.direct", user.id);
            user.put(&direct, json!({ "@carol:hs.test": [old] })).await.ok();
        }
        let before = bob.sync(None).await;
        let new = if by_hand {
            let creation = json!({ "predecessor": { "room_id": old } });
            let body = json!({ "preset": "public_chat", "room_version": "11", "creation_content": creation });
            let new = alice.room(body).await;
            alice.set_state(&old, "m.room.tombstone", json!({ "replacement_room": new })).await.ok();
            new
        } else {
            upgraded(&alice, &old, "11").await
        };
        bob.join(&new).await.ok();
        site.work().await;
        for user in [&alice, &bob] {
            let rules = user.get("v3/pushrules/").await.ok();
            let rooms = rules["global"]["room"].as_array().expect("rules").clone();
            let of = |room: &str| rooms.iter().find(|rule| rule["rule_id"] == room).map(|rule| rule["actions"].clone());
            assert_eq!(of(&new), of(&old), "by hand: {by_hand}");
            assert!(of(&new).is_some());
            let direct = user.get(&format!("v3/user/{}/account_data/m.direct", user.id)).await.ok();
            assert_eq!(direct["@carol:hs.test"], json!([old, new]));
        }
        let sync = bob.sync(Some(&before["next_batch"])).await;
        let rules = of_type(&sync["account_data"]["events"], "m.push_rules").to_string();
        assert!(rules.contains(&new), "told in sync");
    }
}
