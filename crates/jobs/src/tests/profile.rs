//! A changed profile in the user's rooms.

use rooms::Details;
use ruma::CanonicalJsonValue;
use serde_json::json;
use storage::{Key, schema::jobs::JobKind};

use super::{World, join, killed};
use crate::kind::Next;

async fn name(world: &World, user: primitives::UserNid, name: &str) {
    let value = CanonicalJsonValue::String(name.to_owned());
    world.jobs.set_profile_field(user, "displayname", value).await.expect("set");
}

#[tokio::test]
async fn a_changed_name_is_in_every_joined_room_and_nowhere_else() {
    let world = World::new().await;
    let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
    let rooms = world.rooms(&alice, 5).await;
    for room in &rooms[..4] {
        join(room, &bob).await;
    }
    rooms[3].leave(&bob, Details::default()).await.expect("leaves");
    name(&world, nid, "Bob").await;
    assert_eq!(world.stored().await, 1);
    world.work().await;
    for room in &rooms[..3] {
        assert_eq!(world.member(room, &alice, &bob).await, json!({ "membership": "join", "displayname": "Bob" }));
    }
    assert_eq!(world.member(&rooms[3], &alice, &bob).await["membership"], "leave");
    assert_eq!(world.stored().await, 0);

    let before = world.parts.storage.position();
    let avatar = CanonicalJsonValue::String("mxc://hs.test/a".to_owned());
    world.jobs.set_profile_field(nid, "avatar_url", avatar).await.expect("set");
    world.jobs.remove_profile_field(nid, "displayname").await.expect("removed");
    world.work().await;
    let expected = json!({ "membership": "join", "avatar_url": "mxc://hs.test/a" });
    assert_eq!(world.member(&rooms[0], &alice, &bob).await, expected);
    assert!(world.parts.storage.position() > before);
}

#[tokio::test]
async fn what_member_events_do_not_show_causes_no_job() {
    let world = World::new().await;
    let (nid, _) = world.user("bob").await;
    let zone = CanonicalJsonValue::String("Europe/Berlin".to_owned());
    world.jobs.set_profile_field(nid, "m.tz", zone).await.expect("set");
    assert_eq!(world.stored().await, 0);
    name(&world, nid, "").await;
    assert_eq!(world.stored().await, 0, "there was no name before");
}

#[tokio::test]
async fn a_room_that_says_the_same_gets_no_event_and_a_name_for_one_room_is_overwritten() {
    let world = World::new().await;
    let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
    let rooms = world.rooms(&alice, 2).await;
    name(&world, nid, "Bob").await;
    world.work().await;
    for (room, shown) in rooms.iter().zip(["Robert", "Bob"]) {
        let content = json!({ "membership": "join", "displayname": shown, "org.example.own": 1, "reason": "hello" });
        let content = ruma::canonical_json::to_canonical_value(content).expect("canonical");
        let content = content.as_object().expect("an object").clone();
        let event = rooms::Outgoing::state(bob.clone(), "m.room.member", bob.as_str(), content);
        room.send(event).await.expect("joins");
    }
    let before = world.member_id(&rooms[1], &alice, &bob).await;
    let mut batch = storage::Batch::new();
    storage::schema::jobs::begin(&mut batch, JobKind::PROFILE, &(nid,));
    world.parts.storage.commit(batch).await.expect("commits");
    world.work().await;
    let expected = json!({ "membership": "join", "displayname": "Bob", "org.example.own": 1 });
    assert_eq!(world.member(&rooms[0], &alice, &bob).await, expected);
    assert_eq!(world.member_id(&rooms[1], &alice, &bob).await, before, "nothing to change");
}

/// Killed at every write, and started again: every room has the name, and got one event for it.
#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_no_room_behind() {
    let mut nth = 1;
    loop {
        let world = World::new().await;
        let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
        let rooms = world.rooms(&alice, 5).await;
        for room in &rooms {
            join(room, &bob).await;
        }
        name(&world, nid, "Bob").await;
        let (stopped, world) = killed(world, nth).await;
        world.work().await;
        assert_eq!(world.stored().await, 0, "{nth}");
        for room in &rooms {
            assert_eq!(world.member(room, &alice, &bob).await["displayname"], "Bob", "{nth}");
        }
        let report = world.parts.rooms.verify().await.expect("readable");
        assert!(report.is_whole(), "{report}");
        // A public room begins with eight events; then come a join and a name.
        let each = rooms.len() as u64;
        assert_eq!(report.events % each, 0, "{nth}: one event more in one room than in another: {report}");
        if !stopped {
            break;
        }
        nth += 1;
    }
    assert!(nth > 8, "five rooms and three steps: {nth}");
}

#[tokio::test]
async fn of_two_changes_the_newer_one_ends_in_every_room_wherever_the_first_was_stopped() {
    for nth in 1..=9 {
        let world = World::new().await;
        let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
        let rooms = world.rooms(&alice, 5).await;
        for room in &rooms {
            join(room, &bob).await;
        }
        name(&world, nid, "First").await;
        let (_, world) = killed(world, nth).await;
        name(&world, nid, "Second").await;
        world.work().await;
        for room in &rooms {
            assert_eq!(world.member(room, &alice, &bob).await["displayname"], "Second", "{nth}");
        }
    }
}

#[tokio::test]
async fn a_step_waits_as_long_as_the_rate_says() {
    let options = crate::Options { items_per_step: 2, profile_events_per_second: 1.0, ..crate::Options::default() };
    let world = World::new().await;
    let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
    for room in world.rooms(&alice, 3).await {
        join(&room, &bob).await;
    }
    world.parts.users.profiles().set(nid, "displayname", "Bob".into(), &crate::profile::rider(nid)).await.expect("set");
    let parts = &world.parts;
    let kind = crate::profile::Profile::new(parts.storage.clone(), parts.users.clone(), parts.rooms.clone(), &options);
    let id = (nid,).to_bytes().into_parts().0;
    let next = crate::Kind::step(&kind, &id, &[]).await.expect("readable");
    let Next::More { cursor, pause } = next else { panic!("three rooms are more than a step") };
    assert_eq!(pause.as_secs(), 2);
    assert_eq!(crate::Kind::step(&kind, &id, &cursor).await.expect("readable"), Next::Done);
}
