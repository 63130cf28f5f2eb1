//! Guests in a room that closes.

use ruma::{OwnedUserId, UserId};
use serde_json::json;

use super::{World, join, killed, set};

const ACCESS: &str = "m.room.guest_access";

/// A room with three guests and a member who is none.
async fn room(world: &World) -> (rooms::Room, OwnedUserId, OwnedUserId, Vec<OwnedUserId>) {
    let ((_, alice), (_, bob)) = (world.user("alice").await, world.user("bob").await);
    let room = world.room(&alice).await;
    set(&room, &alice, ACCESS, json!({ "guest_access": "can_join" })).await;
    let mut guests = Vec::new();
    for _ in 0..3 {
        let guest = world.guest().await;
        join(&room, &guest).await;
        guests.push(guest);
    }
    join(&room, &bob).await;
    (room, alice, bob, guests)
}

async fn membership(world: &World, room: &rooms::Room, reader: &UserId, user: &UserId) -> String {
    world.member(room, reader, user).await["membership"].as_str().expect("a membership").to_owned()
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_no_guest_in_a_closed_room() {
    let mut nth = 1;
    loop {
        let world = World::new().await;
        let (room, alice, bob, guests) = room(&world).await;
        assert_eq!(world.stored().await, 0, "an open room has nothing to do");
        set(&room, &alice, ACCESS, json!({ "guest_access": "forbidden" })).await;
        assert_eq!(world.stored().await, 1, "in the batch of the event");
        let (stopped, world) = killed(world, nth).await;
        world.work().await;
        for guest in &guests {
            assert_eq!(membership(&world, &room, &alice, guest).await, "leave", "{nth}");
        }
        assert_eq!(membership(&world, &room, &alice, &bob).await, "join");
        assert_eq!(world.stored().await, 0);
        if !stopped {
            break;
        }
        nth += 1;
    }
    assert!(nth > 5, "three guests and three steps: {nth}");
}

#[tokio::test]
async fn a_room_that_was_closed_already_has_nothing_to_do_and_one_that_opens_again_keeps_its_guests() {
    let world = World::new().await;
    let (room, alice, _, guests) = room(&world).await;
    set(&room, &alice, ACCESS, json!({ "guest_access": "forbidden" })).await;
    set(&room, &alice, ACCESS, json!({ "guest_access": "can_join" })).await;
    world.work().await;
    assert_eq!(membership(&world, &room, &alice, &guests[0]).await, "join");
    assert_eq!(world.stored().await, 0);
    let closed = world.room(&alice).await;
    set(&closed, &alice, ACCESS, json!({ "guest_access": "no" })).await;
    assert_eq!(world.stored().await, 0);
}

#[tokio::test]
async fn the_runner_hears_of_a_room_that_closes() {
    let world = World::new().await;
    let (room, alice, _, guests) = room(&world).await;
    let (jobs, cancel) = (world.jobs.clone(), tokio_util::sync::CancellationToken::new());
    let stop = cancel.clone();
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move { jobs.run(stop).await });
    tokio::task::yield_now().await;
    set(&room, &alice, ACCESS, json!({ "guest_access": "forbidden" })).await;
    // The clock stands still: only the bell can have woken it.
    while membership(&world, &room, &alice, guests.last().expect("a guest")).await != "leave" {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
}
