use std::sync::Arc;

use primitives::{Random, ServerKey, SharedClock};
use ruma::{server_name, user_id};
use serde_json::{Value, json};
use storage::{Text, schema::rooms::RoomServerSlots};

use super::*;
use crate::{
    CreateError, CreateRoom, Details, Options, Rooms,
    read::RoomView,
    state::FIRST_MEMBER_SLOT,
    testing::stored::{Draft, ROOM, World, member, reader, state_event},
    tests::{ALICE, BOB, Server, set, uid, user},
};

/// A member of another server, as the writer of rooms notes one.
async fn far_member(world: &mut World, index: u32, id: &'static str, membership: &str, name: Value) -> primitives::Rix {
    let content = json!({ "membership": membership, "displayname": name, "avatar_url": "mxc://far/a" });
    let rix = world.send(Draft { content, ..member(id, id, membership) }).await;
    let slot = primitives::Slot(FIRST_MEMBER_SLOT.0 + index);
    world
        .write(|batch| {
            batch.put::<RoomServerSlots>(&(ROOM, Text::new("far"), slot), &());
        })
        .await;
    rix
}

#[tokio::test]
async fn users_of_other_servers_are_found_by_those_who_share_a_room_as_they_are_called_there() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@b:x", "@b:x", "join")).await;
    far_member(&mut world, 2, "@zoe:far", "join", json!("Zoe Far")).await;
    far_member(&mut world, 3, "@zed:far", "leave", json!("Zed")).await;
    far_member(&mut world, 4, "@zip:far", "join", json!(5)).await;
    let redacted = far_member(&mut world, 5, "@zac:far", "join", json!("Secret")).await;
    world.redact(redacted).await;
    let find = async |who: &str, term: &str| {
        world.reads.find_people(&reader(who), term, None, Searched::default()).await.expect("found")
    };
    let zoe = Person {
        user_id: user_id!("@zoe:far").to_owned(),
        display_name: Some("Zoe Far".to_owned()),
        avatar_url: Some("mxc://far/a".to_owned()),
    };
    assert_eq!(find("@a:x", "far").await.results, std::slice::from_ref(&zoe), "a server's name is no user's");
    assert_eq!(find("@a:x", "zoe").await, FoundPeople { results: vec![zoe], limited: false });
    assert_eq!(find("@a:x", "@z").await.results.len(), 3, "who has left is not there");
    assert_eq!(find("@a:x", "secret").await.results, []);
    assert_eq!(find("@c:x", "zoe").await.results, [], "they share no room");
}

#[tokio::test]
async fn rooms_shared_with_users_of_other_servers_are_told() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    far_member(&mut world, 1, "@zoe:far", "join", json!("Zoe")).await;
    let mutual = world.reads.mutual_rooms(&reader("@a:x"), user_id!("@zoe:far"), None).await.expect("told");
    assert_eq!((mutual.joined, mutual.count, mutual.next_batch), (vec![world.id().to_owned()], 1, None));
    far_member(&mut world, 1, "@zoe:far", "leave", json!("Zoe")).await;
    let mutual = world.reads.mutual_rooms(&reader("@a:x"), user_id!("@zoe:far"), None).await.expect("told");
    assert_eq!(mutual.count, 0);
}

#[tokio::test]
async fn what_is_remembered_of_a_room_is_what_each_view_shows() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let name = async |world: &World, view: &storage::View| {
        let room = RoomView::by_number(view, world.reads.caches(), ROOM).await.expect("readable").expect("there");
        room.about().await.expect("readable").expect("there").summary.published.name.clone()
    };
    let before = world.storage.view();
    let named = world.send(state_event("@a:x", "m.room.name", json!({ "name": "Den" }))).await;
    let after = world.storage.view();
    assert_eq!(name(&world, &before).await, None);
    assert_eq!(name(&world, &after).await.as_deref(), Some("Den"));
    assert_eq!(name(&world, &before).await, None, "an older view shows what was");
    assert_eq!(name(&world, &after).await.as_deref(), Some("Den"));
    world.redact(named).await;
    assert_eq!(name(&world, &world.storage.view()).await, None, "no state tells of it");
    world.restart();
    assert_eq!(name(&world, &world.storage.view()).await, None);
}

#[tokio::test]
async fn topics_are_shown_as_plain_text_and_what_is_no_avatar_is_not() {
    let mut world = World::new().await;
    world.room(ROOM, "world_readable").await;
    let html = json!({ "mimetype": "text/html", "body": "<b>rich</b>" });
    for (topic, shown) in [
        (json!({ "topic": "old" }), Some("old")),
        (json!({ "topic": "old", "m.topic": { "m.text": [html, { "body": "new" }] } }), Some("new")),
        (json!({ "topic": "old", "m.topic": { "m.text": [html] } }), Some("old")),
        (json!({ "topic": 5 }), None),
        (json!({ "topic": "" }), None),
    ] {
        world.send(state_event("@a:x", "m.room.topic", topic)).await;
        world.send(state_event("@a:x", "m.room.avatar", json!({ "url": "https://hs/a" }))).await;
        let view = world.storage.view();
        let room = RoomView::by_number(&view, world.reads.caches(), ROOM).await.expect("readable").expect("there");
        let about = room.about().await.expect("readable").expect("there");
        let published = &about.summary.published;
        assert_eq!((published.topic.as_deref(), published.avatar_url.as_deref()), (shown, None));
        assert!(published.world_readable && about.children.is_empty());
    }
}

fn opened(server: &Server, may_publish: MayPublish) -> Rooms {
    let clock: SharedClock = server.clock.clone();
    let key = Arc::new(ServerKey::new("1", [7; 32]).expect("valid"));
    let options = Options { may_publish, ..Options::new(server_name!("x").to_owned()) };
    Rooms::open(server.storage.clone(), server.users.clone(), clock, Random::seeded(9), key, None, options)
}

#[tokio::test]
async fn the_configuration_says_who_may_publish() {
    let server = Server::new().await;
    let alice = server.nid(ALICE).await;
    for (may_publish, member, admin) in
        [(MayPublish::Members, true, true), (MayPublish::Admins, false, true), (MayPublish::Nobody, false, false)]
    {
        let rooms = opened(&server, may_publish);
        for (is_admin, may) in [(false, member), (true, admin)] {
            server.users.administer(alice, users::Administration::Admin(is_admin)).await.expect("written");
            let made = rooms.create(CreateRoom { published: true, ..CreateRoom::new(user(ALICE)) }).await;
            assert_eq!(made.is_ok(), may, "{may_publish:?} {is_admin}");
            assert!(may || matches!(made, Err(CreateError::MayNotPublish(_))));
            let quiet = rooms.create(CreateRoom::new(user(ALICE))).await.expect("makes");
            let quiet = rooms.room(&quiet).await.expect("known");
            let published = quiet.publish(uid(ALICE), true).await;
            assert_eq!(published.is_ok(), may, "{may_publish:?} {is_admin}");
            assert!(may || matches!(published, Err(PublishError::Forbidden(_))));
            quiet.publish(uid(ALICE), false).await.expect("may always be taken out");
            let refused = quiet.publish(uid(BOB), false).await;
            assert!(matches!(refused, Err(PublishError::Forbidden(_))), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn who_is_banned_is_shown_no_room_that_only_members_may_read() {
    let server = Server::new().await;
    let room = server.public("12").await;
    room.join(uid(BOB), Details::default()).await.expect("joins");
    let bob = crate::Reader { user_id: user(BOB), user_nid: server.nid(BOB).await, device_id: None };
    let reads = server.rooms.reads();
    assert_eq!(reads.room_summary(Some(&bob), room.id()).await.expect("shown").membership, Some("join"));
    room.ban(uid(ALICE), uid(BOB), Details::default()).await.expect("bans");
    let refused = reads.room_summary(Some(&bob), room.id()).await;
    assert!(matches!(refused, Err(crate::ReadRoomError::NotFound)), "{refused:?}");
    let readable = json!({ "history_visibility": "world_readable" });
    set(&room, ALICE, "m.room.history_visibility", "", readable).await.expect("sends");
    assert_eq!(reads.room_summary(Some(&bob), room.id()).await.expect("shown").membership, Some("ban"));
}
