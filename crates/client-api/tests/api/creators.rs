//! Room version 12: creators, their power, and the room id that is the create event's.

use serde_json::{Value, json};

use crate::support::{Site, of_type};

#[tokio::test]
async fn an_additional_creator_stands_as_high_as_the_creator() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let content = json!({ "additional_creators": [bob.id] });
    let room = alice.room(json!({ "room_version": "12", "preset": "public_chat", "creation_content": content })).await;
    bob.join(&room).await.ok();
    alice.act(&room, "kick", &bob).await.refused(403, "M_FORBIDDEN");
    bob.set_state(&room, "m.room.name", json!({ "name": "Bob's" })).await.ok();
    bob.set_state(&room, "m.room.tombstone", json!({ "body": "x", "replacement_room": "!x:y" })).await.ok();
    for user in [&alice, &bob] {
        let levels = json!({ "users": { &user.id: 100 } });
        alice.set_state(&room, "m.room.power_levels", levels).await.refused(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn those_invited_to_a_trusted_private_chat_are_creators() {
    let site = Site::new().await;
    let (alice, bob, carol) = (site.user("alice").await, site.user("bob").await, site.user("carol").await);
    let wish = json!({ "room_version": "12", "preset": "trusted_private_chat", "invite": [bob.id] });
    let room = alice.room(wish.clone()).await;
    assert_eq!(alice.state(&room, "m.room.create").await["additional_creators"], json!([bob.id]));
    let mut wish = wish;
    wish["creation_content"] = json!({ "additional_creators": [carol.id] });
    let room = alice.room(wish).await;
    let creators = alice.state(&room, "m.room.create").await["additional_creators"].clone();
    let mut creators: Vec<_> = creators.as_array().expect("a list").iter().map(Value::to_string).collect();
    creators.sort();
    assert_eq!(creators, [format!("\"{}\"", bob.id), format!("\"{}\"", carol.id)]);
    let levels = alice.state(&room, "m.room.power_levels").await;
    assert_eq!((&levels["users"], &levels["events"]["m.room.tombstone"]), (&json!({}), &json!(150)));
}

#[tokio::test]
async fn additional_creators_must_be_user_ids() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let wish =
        |creators: Value| json!({ "room_version": "12", "creation_content": { "additional_creators": creators } });
    for creators in [
        json!("not-an-array"),
        json!(["@foo:example.com", 42]),
        json!(["@foo:example.com", "not-a-user-id"]),
        json!(["@invalid:dom$ain$.com"]),
    ] {
        let answer = alice.post("v3/createRoom", wish(creators.clone())).await;
        assert_eq!(answer.status, 400, "{creators}: {}", answer.body);
    }
    alice.room(wish(json!(["@foo:example.com", "@bar:baz.code"]))).await;
}

#[tokio::test]
async fn nobody_sends_a_second_create_event() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    for version in ["11", "12"] {
        let room = alice.room(json!({ "room_version": version })).await;
        let again = json!({ "room_version": version, "entropy": 100 });
        let answer = alice.set_state(&room, "m.room.create", again).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}

#[tokio::test]
async fn the_create_event_has_the_room_id_on_every_read() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let room = alice.room(json!({ "room_version": "12" })).await;
    let event = alice.say(&room, "1", "hello").await;
    let create = format!("${}", &room[1..]);
    let read = |path: String| {
        let alice = alice.clone();
        async move { alice.get(&format!("v3/rooms/{path}")).await.ok() }
    };
    let state = read(format!("{room}/state")).await;
    let messages = read(format!("{room}/messages?dir=b&limit=100")).await;
    let direct = read(format!("{room}/context/{create}")).await;
    let around = read(format!("{room}/context/{event}?limit=100")).await;
    let found = [
        of_type(&state, "m.room.create").clone(),
        of_type(&messages["chunk"], "m.room.create").clone(),
        read(format!("{room}/event/{create}")).await,
        direct["event"].clone(),
        of_type(&around["events_before"], "m.room.create").clone(),
        of_type(&around["state"], "m.room.create").clone(),
        read(format!("{room}/state/m.room.create/?format=event")).await,
    ];
    for event in found {
        assert_eq!((&event["room_id"], &event["event_id"]), (&json!(room), &json!(create)));
    }
}
