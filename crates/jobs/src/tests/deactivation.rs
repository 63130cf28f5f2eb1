//! The rooms of a deactivated user.

use rooms::{CreateRoom, Details, InitialState};
use ruma::canonical_json::to_canonical_value;
use serde_json::json;

use super::{World, join, killed};

async fn knocking(world: &World, creator: &ruma::UserId) -> rooms::Room {
    let content = to_canonical_value(json!({ "join_rule": "knock" })).expect("canonical");
    let rule = InitialState {
        event_type: "m.room.join_rules".to_owned(),
        state_key: String::new(),
        content: content.as_object().expect("an object").clone(),
    };
    let request = CreateRoom { initial_state: vec![rule], ..CreateRoom::new(creator.to_owned()) };
    let id = world.parts.rooms.create(request).await.expect("creates");
    world.parts.rooms.room(&id).await.expect("known")
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_the_user_in_no_room() {
    let mut nth = 1;
    loop {
        let world = World::new().await;
        let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
        let mut rooms = world.rooms(&alice, 4).await;
        for room in &rooms[..3] {
            join(room, &bob).await;
        }
        rooms[3].invite(&alice, &bob, Details::default()).await.expect("invites");
        rooms.push(knocking(&world, &alice).await);
        rooms[4].knock(&bob, Details::default()).await.expect("knocks");
        world.jobs.deactivate(nid, true).await.expect("deactivated");
        let (stopped, world) = killed(world, nth).await;
        world.work().await;
        assert_eq!(world.stored().await, 0, "{nth}");
        for room in &rooms {
            assert_eq!(world.member(room, &alice, &bob).await, json!({ "membership": "leave" }), "{nth}");
        }
        if !stopped {
            break;
        }
        nth += 1;
    }
    assert!(nth > 8, "five rooms and three steps: {nth}");
}

#[tokio::test]
async fn a_job_without_a_deactivated_account_takes_nobody_out() {
    let world = World::new().await;
    let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    join(&room, &bob).await;
    world.parts.storage.commit(crate::deactivation::rider(nid)).await.expect("commits");
    world.work().await;
    assert_eq!(world.member(&room, &alice, &bob).await["membership"], "join");
    assert_eq!(world.stored().await, 0);
}
