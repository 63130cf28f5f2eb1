//! What members had set for a room that was replaced.

use primitives::UserNid;
use rooms::{
    EventLocal, Reader, Room, Upgrade,
    filter::RoomEventFilter,
    read::{MessagesRequest, PageDirection},
};
use ruma::UserId;
use serde_json::{Value, json};
use storage::{Fault, Step};
use users::DataKey;

use super::{World, join, killed, set};

const TAGS: &str = "m.tag";

async fn replace(world: &World, room: &Room, by: &UserId) -> Room {
    let upgrade = Upgrade {
        by: by.to_owned(),
        version: "11".to_owned(),
        additional_creators: Vec::new(),
        local: EventLocal::default(),
    };
    let new = room.upgrade(upgrade).await.expect("upgrades");
    world.parts.rooms.room(&new).await.expect("known")
}

async fn tag(world: &World, user: UserNid, room: &Room, tag: &str) {
    let content = json!({ "tags": { tag: {} } }).as_object().expect("an object").clone();
    let key = DataKey { user, room: Some(room.nid()), data_type: TAGS };
    world.parts.users.account_data().edit(key, |_| Some(content.clone())).await.expect("written");
}

async fn tags(world: &World, user: UserNid, room: &Room) -> Option<Value> {
    let key = DataKey { user, room: Some(room.nid()), data_type: TAGS };
    let json = world.parts.users.account_data().get(key).await.expect("readable");
    json.map(|json| serde_json::from_str::<Value>(&json).expect("JSON")["tags"].clone())
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_no_member_without_their_settings() {
    let mut nth = 1;
    loop {
        let world = World::new().await;
        let (alice, alice_id) = world.user("alice").await;
        let room = world.room(&alice_id).await;
        let mut users = vec![alice];
        for name in ["bob", "carol", "dave"] {
            let (nid, id) = world.user(name).await;
            join(&room, &id).await;
            users.push(nid);
        }
        for user in &users {
            tag(&world, *user, &room, "u.old").await;
        }
        let new = replace(&world, &room, &alice_id).await;
        for name in ["bob", "carol"] {
            join(&new, &UserId::parse(format!("@{name}:hs.test")).expect("a user id")).await;
        }
        assert!(world.stored().await > 0, "in the batches of the tombstone and the joins");
        let (stopped, world) = killed(world, nth).await;
        world.work().await;
        let new = world.parts.rooms.room(new.id()).await.expect("known");
        for user in &users[..3] {
            assert_eq!(tags(&world, *user, &new).await, Some(json!({ "u.old": {} })), "{nth}");
        }
        assert_eq!(tags(&world, users[3], &new).await, None, "who has not come yet");
        assert_eq!(world.stored().await, 0);
        if !stopped {
            break;
        }
        nth += 1;
    }
    assert!(nth > 4, "several steps: {nth}");
}

#[tokio::test]
async fn a_room_that_only_says_that_it_replaces_another_gets_nothing() {
    let world = World::new().await;
    let ((alice, alice_id), (bob, bob_id)) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice_id).await;
    join(&room, &bob_id).await;
    tag(&world, bob, &room, "u.old").await;
    tag(&world, alice, &room, "u.old").await;
    let predecessor = json!({ "predecessor": { "room_id": room.id() } });
    let creation_content = ruma::canonical_json::to_canonical_value(predecessor).expect("canonical");
    let creation_content = creation_content.as_object().expect("an object").clone();
    let request = rooms::CreateRoom {
        creation_content,
        preset: Some(rooms::Preset::PublicChat),
        ..rooms::CreateRoom::new(bob_id.clone())
    };
    let forged = world.parts.rooms.create(request).await.expect("creates");
    let forged = world.parts.rooms.room(&forged).await.expect("known");
    join(&forged, &alice_id).await;
    world.work().await;
    assert_eq!((tags(&world, alice, &forged).await, tags(&world, bob, &forged).await), (None, None));
    // The old room's own word makes it true.
    tag(&world, bob, &forged, "u.new").await;
    set(&room, &alice_id, "m.room.tombstone", json!({ "replacement_room": forged.id() })).await;
    world.work().await;
    assert_eq!(tags(&world, alice, &forged).await, Some(json!({ "u.old": {} })));
    assert_eq!(tags(&world, bob, &forged).await, Some(json!({ "u.new": {} })), "what Bob has set himself stays");
    assert_eq!(world.stored().await, 0);
}

#[tokio::test]
async fn who_comes_again_keeps_what_they_have_changed() {
    let world = World::new().await;
    let ((_, alice), (bob, bob_id)) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    join(&room, &bob_id).await;
    let new = replace(&world, &room, &alice).await;
    join(&new, &bob_id).await;
    world.work().await;
    tag(&world, bob, &room, "u.late").await;
    new.leave(&bob_id, rooms::Details::default()).await.expect("leaves");
    join(&new, &bob_id).await;
    assert_eq!(world.stored().await, 0, "only the first time");
    assert_eq!(tags(&world, bob, &new).await, None);
}

/// The contents of a room's events of a type, newest first.
async fn sent(world: &World, room: &Room, by: &UserId, kind: &str) -> Vec<Value> {
    let user_nid = world.parts.users.nid(by).await.expect("readable").expect("registered");
    let reader = Reader { user_id: by.to_owned(), user_nid, device_id: None };
    let (direction, filter) = (PageDirection::Backward, RoomEventFilter::default());
    let request = MessagesRequest { direction, from: None, to: None, limit: Some(100), filter };
    let page = world.parts.rooms.messages(&reader, room.id(), request).await.expect("a page");
    let of_kind = page.chunk.iter().filter(|event| event.event.header.event_type == kind);
    of_kind.map(|event| event.event.content_as().expect("JSON")).collect()
}

#[tokio::test]
async fn a_kill_during_an_upgrade_leaves_no_replaced_room_open_and_closes_none_twice() {
    let (mut resumed, mut nth) = (0, 1);
    loop {
        let world = World::new().await;
        let (_, alice) = world.user("alice").await;
        let room = world.room(&alice).await;
        world.faults.at(Step::Write, nth, Fault::Stop);
        let upgrade = Upgrade {
            by: alice.clone(),
            version: "11".to_owned(),
            additional_creators: Vec::new(),
            local: EventLocal::default(),
        };
        let (upgraded, id) = (room.upgrade(upgrade).await, room.id().to_owned());
        drop(room);
        let world = world.restarted().await;
        let room = world.parts.rooms.room(&id).await.expect("known");
        let open = sent(&world, &room, &alice, "m.room.power_levels").await.len() == 1;
        let replaced = sent(&world, &room, &alice, "m.room.tombstone").await.len() == 1;
        resumed += u32::from(open && replaced);
        for _ in 0..2 {
            world.work().await;
        }
        assert_eq!(world.stored().await, 0);
        let levels = sent(&world, &room, &alice, "m.room.power_levels").await;
        assert_eq!(levels.len(), if replaced { 2 } else { 1 }, "{nth}");
        if replaced {
            assert_eq!((&levels[0]["events_default"], &levels[0]["invite"]), (&json!(50), &json!(50)), "{nth}");
        }
        if nth > 20 || (upgraded.is_ok() && !open && nth > 4) {
            break;
        }
        nth += 1;
    }
    assert!(resumed > 0, "some kill was between the tombstone and the closing");
}

#[tokio::test]
async fn a_room_that_was_closed_and_opened_again_stays_open() {
    let world = World::new().await;
    let (_, alice) = world.user("alice").await;
    let room = world.room(&alice).await;
    let before = sent(&world, &room, &alice, "m.room.power_levels").await.remove(0);
    replace(&world, &room, &alice).await;
    set(&room, &alice, "m.room.power_levels", before.clone()).await;
    let world = world.restarted().await;
    world.work().await;
    let room = world.parts.rooms.room(room.id()).await.expect("known");
    assert_eq!(sent(&world, &room, &alice, "m.room.power_levels").await[0], before);
}
