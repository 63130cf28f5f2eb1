//! Rooms are told of a member's devices.

use primitives::RoomNid;
use rooms::Room;
use storage::{
    Batch, Direction, KeyRange,
    schema::{
        jobs::{self, JobKind},
        rooms::{RoomLog, RoomLogEntry},
    },
};

use super::{World, join, killed};
use crate::Projections;

/// How often a room's log tells of a user's devices.
async fn told(world: &World, room: RoomNid, user: &ruma::UserId) -> usize {
    let range = KeyRange::prefix(&(room,));
    let page = world.parts.storage.view().scan::<RoomLog>(&range, 500, Direction::Forward).await.expect("readable");
    let is_his = |entry: &RoomLogEntry| matches!(entry, RoomLogEntry::DeviceChange { user_id } if user_id == user);
    page.rows.iter().filter(|(_, entry)| is_his(entry)).count()
}

async fn five_rooms() -> (World, primitives::UserNid, ruma::OwnedUserId, Vec<Room>) {
    let world = World::new().await;
    let ((_, alice), (nid, bob)) = (world.user("alice").await, world.user("bob").await);
    let rooms = world.rooms(&alice, 5).await;
    for room in &rooms {
        join(room, &bob).await;
    }
    (world, nid, bob, rooms)
}

async fn begin(world: &World, user: primitives::UserNid) {
    let mut batch = Batch::new();
    jobs::begin(&mut batch, JobKind::DEVICE_LIST, &(user,));
    world.parts.storage.commit(batch).await.expect("commits");
}

#[tokio::test]
async fn the_rooms_that_a_user_is_in_are_told_once_and_others_not() {
    let (world, nid, bob, rooms) = five_rooms().await;
    rooms[4].leave(&bob, rooms::Details::default()).await.expect("leaves");
    begin(&world, nid).await;
    world.work().await;
    for room in &rooms[..4] {
        assert_eq!(told(&world, room.nid(), &bob).await, 1);
    }
    assert_eq!(told(&world, rooms[4].nid(), &bob).await, 0);
    assert_eq!(world.stored().await, 0);
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_no_room_untold() {
    let mut nth = 1;
    loop {
        let (world, nid, bob, rooms) = five_rooms().await;
        begin(&world, nid).await;
        let (stopped, world) = killed(world, nth).await;
        world.work().await;
        for room in &rooms {
            assert_eq!(told(&world, room.nid(), &bob).await, 1, "{nth}");
        }
        assert_eq!(world.stored().await, 0);
        let report = world.parts.rooms.verify().await.expect("readable");
        assert!(report.is_whole(), "{report}");
        if !stopped {
            break;
        }
        nth += 1;
    }
    assert!(nth > 5, "three steps of two writes each: {nth}");
}

#[tokio::test]
async fn a_log_tells_of_each_member_once_and_of_nobody_who_has_gone() {
    let (world, nid, bob, rooms) = five_rooms().await;
    let (carols, carol) = world.user("carol").await;
    for room in &rooms[..2] {
        join(room, &carol).await;
    }
    for _ in 0..3 {
        begin(&world, nid).await;
        begin(&world, carols).await;
        world.work().await;
    }
    let catch_up = async |world: &World| {
        let parts = &world.parts;
        let projections = Projections::open(parts.storage.clone(), parts.rooms.clone(), world.clock.clone());
        projections.catch_up_all().await.expect("the store works");
    };
    catch_up(&world).await;
    for (room, of_carol) in rooms[..3].iter().zip([1, 1, 0]) {
        assert_eq!((told(&world, room.nid(), &bob).await, told(&world, room.nid(), &carol).await), (1, of_carol));
    }
    let left = rooms[0].nid();
    rooms[0].leave(&bob, rooms::Details::default()).await.expect("leaves");
    catch_up(&world).await;
    assert_eq!((told(&world, left, &bob).await, told(&world, left, &carol).await), (0, 1));
    let still = world.parts.rooms.prune_device_changes(left, 100).await.expect("the store works");
    assert!(!still && told(&world, left, &carol).await == 1, "somebody is there who may want to know");
    let report = world.parts.rooms.verify().await.expect("readable");
    assert!(report.is_whole(), "{report}");
}
