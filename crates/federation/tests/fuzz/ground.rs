//! A server with a room, and a peer, for as many cases as there are.

use std::sync::LazyLock;

use rooms::{CreateRoom, Preset, Room};
use ruma::OwnedUserId;
use testkit::{
    hostile::{Draft, Hostile},
    world::{Server, World},
};
use tokio::runtime::Runtime;

/// A user of the peer.
pub(crate) const MALLORY: &str = "@mallory:evil.test";

/// The server `hs.test` with Alice and her public room, which Mallory of the peer is in; and what runs them.
pub(crate) struct Ground {
    pub(crate) runtime: Runtime,
    pub(crate) here: Server,
    pub(crate) evil: Hostile,
    pub(crate) alice: OwnedUserId,
    pub(crate) room: Room,
    /// Kept: it leads from name to server.
    _world: World,
}

pub(crate) static GROUND: LazyLock<Ground> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let (world, here, evil, alice, room) = runtime.block_on(async {
        let world = World::new();
        let (here, evil) = (world.server("hs.test", 1).await, world.hostile("evil.test", 66));
        let alice = here.user("alice").await;
        let create = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::new(alice.clone()) };
        let id = here.parts.rooms.create(create).await.expect("created");
        let room = here.parts.rooms.room(&id).await.expect("there");
        let held = here.parts.held(&id).await.expect("known");
        let join = evil.event(&held, &Draft::member(MALLORY, MALLORY, "join"));
        let answer = evil.transaction(&here.name, &[&join], &[]).await;
        assert_eq!(answer.error_of(&join), None);
        (world, here, evil, alice, room)
    });
    Ground { runtime, here, evil, alice, room, _world: world }
});
