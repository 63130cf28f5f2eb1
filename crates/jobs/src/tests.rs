//! Jobs on a store in memory that outlives its server.

mod deactivation;
mod device_list;
mod guests;
mod profile;
mod projections;
mod runner;
mod upgrade;

use std::sync::Arc;

use primitives::{ManualClock, Random, SharedClock, UnixMillis, UserNid};
use rooms::{CreateRoom, Details, Outgoing, Preset, Reader, Room, render::ClientEvent};
use ruma::{OwnedUserId, UserId, canonical_json::to_canonical_value};
use serde_json::Value;
use storage::{Fault, Faults, MemoryDisk, Options as StoreOptions, Step, Storage};
use testkit::Parts;
use users::{Authority, NewAccount};

use crate::{Jobs, Options};

/// A server and its jobs.
pub(crate) struct World {
    disk: MemoryDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) parts: Parts,
    pub(crate) jobs: Jobs,
    pub(crate) faults: Faults,
}

/// Steps of two items, so that few rooms make many steps, and no pause between them.
pub(crate) fn options() -> Options {
    Options { items_per_step: 2, profile_events_per_second: f64::INFINITY, ..Options::default() }
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        Self::on(MemoryDisk::new(), clock, options()).await
    }

    pub(crate) async fn on(disk: MemoryDisk, clock: Arc<ManualClock>, options: Options) -> Self {
        let faults = Faults::new();
        let shared: SharedClock = clock.clone();
        let store = StoreOptions { faults: faults.clone(), ..StoreOptions::memory(&disk, "hs.test") };
        let storage = Storage::open(store, &shared, &Random::seeded(1)).expect("opens");
        let parts = Parts::on(storage, clock.clone()).await;
        let jobs = Jobs::open(parts.storage.clone(), parts.users.clone(), parts.rooms.clone(), shared, &options);
        Self { disk, clock, parts, jobs, faults }
    }

    /// The server as it comes up again after it was killed.
    pub(crate) async fn restarted(self) -> Self {
        let Self { disk, clock, .. } = self;
        Self::on(disk, clock, options()).await
    }

    pub(crate) async fn user(&self, name: &str) -> (UserNid, OwnedUserId) {
        let account = NewAccount {
            authority: Authority::Administrator { admin: false, user_type: None },
            username: Some(name.to_owned()),
            password: None,
            display_name: None,
            session: None,
        };
        let registered = self.parts.users.register(account).await.expect("registers");
        (registered.user_nid, registered.user_id)
    }

    pub(crate) async fn guest(&self) -> OwnedUserId {
        let account = NewAccount {
            authority: Authority::Guest,
            username: None,
            password: None,
            display_name: None,
            session: None,
        };
        self.parts.users.register(account).await.expect("registers").user_id
    }

    /// A room that everybody may join.
    pub(crate) async fn room(&self, creator: &UserId) -> Room {
        let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::new(creator.to_owned()) };
        let id = self.parts.rooms.create(request).await.expect("creates");
        self.parts.rooms.room(&id).await.expect("known")
    }

    /// Rooms that everybody may join.
    pub(crate) async fn rooms(&self, creator: &UserId, count: usize) -> Vec<Room> {
        let mut rooms = Vec::new();
        for _ in 0..count {
            rooms.push(self.room(creator).await);
        }
        rooms
    }

    /// The member event of a user, as another user who is in the room has it.
    async fn member_event(&self, room: &Room, reader: &UserId, user: &UserId) -> ClientEvent {
        let user_nid = self.parts.users.nid(reader).await.expect("readable").expect("registered");
        let reader = Reader { user_id: reader.to_owned(), user_nid, device_id: None };
        let event = self.parts.reads.state_event(&reader, room.id(), "m.room.member", user.as_str()).await;
        event.expect("a member event")
    }

    pub(crate) async fn member(&self, room: &Room, reader: &UserId, user: &UserId) -> Value {
        let event = self.member_event(room, reader, user).await;
        event.event.content_as().expect("JSON")
    }

    pub(crate) async fn member_id(&self, room: &Room, reader: &UserId, user: &UserId) -> String {
        self.member_event(room, reader, user).await.event.header.event_id.clone()
    }

    /// Does what is due.
    pub(crate) async fn work(&self) {
        self.jobs.run_due().await.expect("readable");
    }

    /// How many jobs are stored.
    pub(crate) async fn stored(&self) -> u64 {
        let report = self.jobs.verify().await.expect("readable");
        assert!(report.is_whole(), "{report}");
        report.jobs
    }
}

pub(crate) async fn join(room: &Room, user: &UserId) {
    room.join(user, Details::default()).await.expect("joins");
}

pub(crate) async fn set(room: &Room, sender: &UserId, kind: &str, content: Value) {
    let content = to_canonical_value(content).expect("canonical").as_object().expect("an object").clone();
    room.send(Outgoing::state(sender.to_owned(), kind, "", content)).await.expect("sends");
}

/// Kills the server at the `nth` write while it works. Answers whether it came to that, and with the server after its restart.
pub(crate) async fn killed(world: World, nth: u32) -> (bool, World) {
    world.faults.at(Step::Write, nth, Fault::Stop);
    world.work().await;
    let stopped = world.stored().await > 0;
    (stopped, world.restarted().await)
}
