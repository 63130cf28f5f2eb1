//! The projection of members, through everything that changes a state.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use primitives::{RoomNid, Slot};
use rooms::{Details, Room, state};
use storage::{Batch, Fault, ReadError, Step};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{World, join};
use crate::{
    Projections,
    projections::{Projection, RoomChange},
    verify::Report,
};

fn projections(world: &World) -> Projections {
    Projections::open(world.parts.storage.clone(), world.parts.rooms.clone(), world.clock.clone())
}

async fn joined(world: &World, room: &Room) -> u32 {
    let view = world.parts.storage.view();
    let servers = projections(world).servers_in(&view, room.nid()).await.expect("readable");
    assert!(servers.len() <= 1 && servers.iter().all(|(name, _)| name == "hs.test"), "{servers:?}");
    servers.first().map_or(0, |(_, count)| *count)
}

async fn check(world: &World) -> u64 {
    let mut report = Report::default();
    projections(world).verify(&mut report).await.expect("readable");
    assert!(report.is_whole(), "{report}");
    report.projected
}

/// A projection that keeps what it is told in memory, in place of rows.
#[derive(Default)]
struct Told(Mutex<BTreeMap<(RoomNid, String, String), u32>>);

impl Projection for Told {
    fn number(&self) -> u8 {
        200
    }
    fn name(&self) -> &'static str {
        "told"
    }
    fn concerns(&self, slot: Slot) -> bool {
        !state::is_member_slot(slot)
    }
    fn apply<'a>(&'a self, change: &'a RoomChange, _: &'a mut Batch) -> BoxFuture<'a, Result<(), ReadError>> {
        Box::pin(async move {
            for slot in &change.slots {
                if let Some(entry) = slot.after {
                    assert!(!change.json(entry.rix).await?.is_empty());
                }
                let key = (change.room, slot.key.event_type.clone(), slot.key.state_key.clone());
                *self.0.lock().entry(key).or_default() += 1;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn members_are_counted_by_server_through_joins_and_leaves_and_a_restart() {
    let world = World::new().await;
    let ((_, alice), (_, bob)) = (world.user("alice").await, world.user("bob").await);
    let (one, two) = (world.room(&alice).await, world.room(&alice).await);
    join(&one, &bob).await;
    assert_eq!(joined(&world, &one).await, 0, "nobody has looked");
    projections(&world).catch_up(one.nid()).await.expect("the store works");
    assert_eq!((joined(&world, &one).await, joined(&world, &two).await), (2, 0));
    one.leave(&bob, Details::default()).await.expect("leaves");
    let world = world.restarted().await;
    projections(&world).catch_up_all().await.expect("the store works");
    assert_eq!((joined(&world, &one).await, joined(&world, &two).await), (1, 1));
    assert_eq!(check(&world).await, 2);
    let before = world.parts.storage.position();
    projections(&world).catch_up_all().await.expect("the store works");
    assert_eq!(world.parts.storage.position(), before, "nothing to write");
    let room = world.parts.rooms.room(one.id()).await.expect("known");
    room.leave(&alice, Details::default()).await.expect("leaves");
    projections(&world).catch_up(one.nid()).await.expect("the store works");
    assert_eq!(joined(&world, &one).await, 0);
    check(&world).await;
}

#[tokio::test]
async fn each_changed_slot_is_told_once_whoever_else_catches_up() {
    let world = World::new().await;
    let (_, alice) = world.user("alice").await;
    let room = world.room(&alice).await;
    let told = Arc::new(Told::default());
    let all: Vec<Arc<dyn Projection>> = vec![told.clone()];
    let (storage, rooms) = (world.parts.storage.clone(), world.parts.rooms.clone());
    let projections = Projections::of(storage, rooms, world.clock.clone(), all);
    projections.catch_up_all().await.expect("the store works");
    super::set(&room, &alice, "m.room.topic", serde_json::json!({ "topic": "new" })).await;
    projections.catch_up_all().await.expect("the store works");
    projections.catch_up_all().await.expect("the store works");
    let told = told.0.lock().clone();
    assert!(told.len() > 4, "{told:?}");
    assert!(told.keys().all(|(nid, kind, _)| *nid == room.nid() && kind != "m.room.member"));
    assert!(told.values().all(|times| *times == 1), "{told:?}");
}

/// More members than one batch reflects, and a kill at every write on the way.
#[tokio::test]
async fn a_long_way_is_gone_in_parts_and_goes_on_after_a_kill() {
    let world = World::new().await;
    let (_, alice) = world.user("alice").await;
    let room = world.room(&alice).await;
    for number in 0..1_100 {
        let (_, user) = world.user(&format!("u{number}")).await;
        join(&room, &user).await;
    }
    let mut world = world;
    for kill in 0..3 {
        world.faults.at(Step::Write, 2, Fault::Stop);
        let ended = projections(&world).catch_up(room.nid()).await;
        assert_eq!(ended.is_err(), kill < 2, "three batches in all: {kill}");
        world = world.restarted().await;
        check(&world).await;
    }
    assert_eq!(joined(&world, &room).await, 1_101);
}

#[tokio::test]
async fn the_runner_follows_what_changes() {
    let world = World::new().await;
    let ((_, alice), (_, bob)) = (world.user("alice").await, world.user("bob").await);
    let old = world.room(&alice).await;
    world.parts.rooms.signals().take_changed(100);
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
    let (runner, stop) = (projections(&world), cancel.clone());
    tasks.spawn(async move { runner.run(stop).await });
    while joined(&world, &old).await == 0 {
        tokio::task::yield_now().await;
    }
    let new = world.room(&alice).await;
    join(&new, &bob).await;
    while joined(&world, &new).await < 2 {
        tokio::task::yield_now().await;
    }
    let before = world.parts.storage.position();
    let content = ruma::canonical_json::to_canonical_value(serde_json::json!({ "body": "hello" })).expect("canonical");
    let content = content.as_object().expect("an object").clone();
    new.send(rooms::Outgoing::message(bob, "m.room.message", content)).await.expect("sends");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.parts.storage.position().0, before.0 + 1, "a message costs nothing");
    cancel.cancel();
    tasks.close();
    tasks.wait().await;
    check(&world).await;
}
