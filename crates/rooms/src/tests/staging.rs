//! A room that comes here whole, in stages, from a server `x` to a server `y`.

use std::sync::Arc;

use primitives::{ManualClock, Random, ServerKey, SharedClock, UnixMillis};
use ruma::{
    OwnedEventId, UserId, canonical_json::to_canonical_value, serde::Base64, server_name, signatures::PublicKeyMap,
};
use serde_json::json;
use storage::{
    Batch, Direction, Fault, Faults, KeyRange, MemoryDisk, Options as StoreOptions, Step, Storage, Text,
    schema::{
        meta::Counters,
        rooms::{LocalMembers, Membership, Memberships, RoomHeads, RoomLog, Timeline},
    },
};
use users::Users;

use crate::{
    Details, Options, Pdu, Received, Room, RoomError, Rooms, StageError,
    auth::auth_types_for,
    pdu::{BuildInput, build},
    testing::{Draft, State, TestRoom},
    tree::StoredTrees,
};

const BOB: &str = "@bob:y";

/// The server that the room comes to.
struct Here {
    rooms: Rooms,
    users: Users,
    storage: Storage,
}

fn key_of_here() -> ServerKey {
    ServerKey::new("1", [9; 32]).expect("a valid version")
}

/// The keys of the server that the room comes from.
fn keys() -> PublicKeyMap {
    let key = ServerKey::new("1", [7; 32]).expect("a valid version");
    let public = Base64::new(key.public().to_vec());
    [("x".to_owned(), [(key.id().to_string(), public)].into())].into()
}

async fn here(disk: &MemoryDisk, faults: &Faults) -> Here {
    let clock: SharedClock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let random = Random::seeded(3);
    let options = StoreOptions { faults: faults.clone(), ..StoreOptions::memory(disk, "y") };
    let storage = Storage::open(options, &clock, &random).expect("opens");
    let mut options = users::Options::new(server_name!("y").to_owned());
    options.limits.enforce = false;
    let users = Users::open(storage.clone(), clock.clone(), random.clone(), options).await.expect("opens");
    super::register(&users, "bob").await;
    let options = Options::new(server_name!("y").to_owned());
    let rooms = Rooms::open(storage.clone(), users.clone(), clock, random, Arc::new(key_of_here()), None, options);
    Here { rooms, users, storage }
}

/// The room there, with many members.
struct There {
    room: TestRoom,
    state: State,
}

impl There {
    fn new(version: &str, members: usize) -> Self {
        let (mut room, mut state) = TestRoom::public(version);
        for number in 0..members {
            let user = format!("@u{number}:x");
            room.apply(&mut state, Draft::member(&user, &user, "join")).expect("everybody may join");
        }
        Self { room, state }
    }

    fn id(&self) -> &ruma::RoomId {
        self.room.events[0].room_id()
    }

    fn json(&self) -> Vec<Vec<u8>> {
        self.room.events.iter().map(|event| event.json().as_bytes().to_vec()).collect()
    }

    fn state_ids(&self) -> Vec<OwnedEventId> {
        self.state.values().map(|event| event.event_id().clone()).collect()
    }

    /// Bob's join, as it comes back from the server there.
    fn join(&self, depth: u64) -> Pdu {
        let sender = <&UserId>::try_from(BOB).expect("a user id");
        let content = json!({ "membership": "join" });
        let raw = serde_json::value::to_raw_value(&content).expect("JSON");
        let types = auth_types_for(self.room.version, &"m.room.member".into(), sender, Some(BOB), &raw).expect("known");
        let auth = types.into_iter().filter_map(|(kind, key)| self.state.get(&(kind.to_owned(), key)));
        let auth: Vec<_> = auth.map(|event| event.event_id().clone()).collect();
        let prev = vec![self.room.events.last().expect("events").event_id().clone()];
        let input = BuildInput {
            version: self.room.version,
            room_id: Some(self.id()),
            sender,
            event_type: "m.room.member",
            state_key: Some(BOB),
            content: to_canonical_value(&content).expect("canonical").as_object().expect("an object").clone(),
            redacts: None,
            prev_events: &prev,
            auth_events: &auth,
            reference_hashes: None,
            depth,
            origin_server_ts: UnixMillis(1_700_000_000_000 + depth),
            extra: vec![],
        };
        build(input, &key_of_here(), server_name!("y")).expect("a valid event")
    }
}

/// Brings the room here, from wherever it was left.
async fn bring(here: &Here, there: &There, join: &Pdu) -> Result<Room, StageError> {
    let staging = here.rooms.stage(there.id(), there.room.version).await?;
    for events in there.json().chunks(200) {
        let taken = staging.take_in(events.to_vec(), &keys()).await?;
        assert!(taken.iter().all(|one| matches!(one, Received::Stored(..))), "{taken:?}");
    }
    let state = staging.state(&there.state_ids()).await?;
    staging.begin(join.json().as_bytes().to_vec(), state, &keys(), Batch::new()).await
}

/// Bob's memberships, as his own rows say them.
async fn memberships(here: &Here) -> Vec<Membership> {
    let bob = <&UserId>::try_from(BOB).expect("a user id");
    let nid = here.users.nid(bob).await.expect("readable").expect("registered");
    let view = here.storage.view();
    let rows = view.scan::<Memberships>(&KeyRange::prefix(&(nid,)), 10, Direction::Forward).await.expect("readable");
    rows.rows.into_iter().map(|(_, row)| row.value.membership).collect()
}

/// The room is here as it is there, and everything that is stored agrees.
async fn check(here: &Here, there: &There, room: &Room) {
    let report = here.rooms.verify().await.expect("readable");
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.rooms, report.staged), (1, 0));
    let current = room.current().await.expect("there");
    for event in there.state.values() {
        let found = current.event(event.kind(), event.state_key().expect("state")).await.expect("readable");
        assert_eq!(found.map(|found| found.event_id().clone()).as_ref(), Some(event.event_id()));
    }
    assert_eq!(memberships(here).await, [Membership::Join]);
    super::say(room, BOB, "hello").await.expect("the room goes on");
}

#[tokio::test]
async fn a_kill_after_any_batch_leaves_no_room_or_a_whole_one() {
    for version in ["11", "12"] {
        let there = There::new(version, 520);
        let join = there.join(1_000);
        let mut nth = 1;
        loop {
            let (disk, faults) = (MemoryDisk::new(), Faults::new());
            let first = here(&disk, &faults).await;
            faults.at(Step::Write, nth, Fault::Stop);
            let brought = bring(&first, &there, &join).await;
            let is_done = brought.is_ok();
            drop((first, brought));

            let second = here(&disk, &Faults::none()).await;
            let report = second.rooms.verify().await.expect("readable");
            assert!(report.is_whole(), "{nth}: {report}");
            if !is_done {
                let found = second.rooms.room(there.id()).await;
                assert!(matches!(found, Err(RoomError::Unknown)), "{nth}");
                assert!(memberships(&second).await.is_empty());
            }
            let room = bring(&second, &there, &join).await.expect("goes on where it was");
            check(&second, &there, &room).await;
            if is_done {
                break;
            }
            nth += 1;
        }
        assert!(nth > 12, "events by fifties, the state in two parts, the head: {nth}");
    }
}

#[tokio::test]
async fn ten_thousand_state_events_come_in_small_batches() {
    let there = There::new("12", 10_000);
    let join = there.join(20_000);
    let faults = Faults::new();
    let here = here(&MemoryDisk::new(), &faults).await;
    let before = here.storage.position();
    let staging = here.rooms.stage(there.id(), there.room.version).await.expect("stages");
    for events in there.json().chunks(200) {
        staging.take_in(events.to_vec(), &keys()).await.expect("taken in");
    }
    let taken = here.storage.position().0 - before.0;
    assert!(taken >= 10_000 / 50, "no batch of more than fifty events: {taken} batches");
    let state = staging.state(&there.state_ids()).await.expect("stored");
    let staged = here.storage.position().0 - before.0 - taken;
    assert!(staged >= 10_000 / 500, "no batch of more than 500 slots: {staged} batches");
    let before = here.storage.position();
    let room = staging.begin(join.json().as_bytes().to_vec(), state, &keys(), Batch::new()).await.expect("begins");
    assert_eq!(here.storage.position().0, before.0 + 1);
    assert!(last_batch_is_small(&here, &room).await, "the head moves with a few rows");
    assert_eq!(joined(&here, &room).await, 10_002);
    check(&here, &there, &room).await;
}

/// How many members the current state counts.
async fn joined(here: &Here, room: &Room) -> u32 {
    let view = here.storage.view();
    let head = view.get::<RoomHeads>(&(room.nid(),)).await.expect("readable").expect("there");
    let trees = StoredTrees::new(view, room.nid(), Arc::clone(here.rooms.nodes()));
    trees.root(head.root).await.expect("readable").joined
}

/// Whether the batch that began a room wrote rows for its own event, and none for the ten thousand others.
async fn last_batch_is_small(here: &Here, room: &Room) -> bool {
    let view = here.storage.view();
    let of_room = KeyRange::prefix(&(room.nid(),));
    let log = view.scan_keys::<RoomLog>(&of_room, 10, Direction::Forward).await.expect("readable");
    let timeline = view.scan_keys::<Timeline>(&of_room, 10, Direction::Forward).await.expect("readable");
    let local = view.scan_keys::<LocalMembers>(&of_room, 10, Direction::Forward).await.expect("readable");
    (log.keys.len(), timeline.keys.len(), local.keys.len()) == (1, 1, 1)
}

#[tokio::test]
async fn what_is_needed_first_is_named_and_what_is_not_allowed_begins_no_room() {
    let there = There::new("12", 3);
    let here = here(&MemoryDisk::new(), &Faults::none()).await;
    let staging = here.rooms.stage(there.id(), there.room.version).await.expect("stages");
    let json = there.json();
    let early = staging.take_in(vec![json[1].clone()], &keys()).await.expect("readable");
    let create = there.room.events[0].event_id().clone();
    assert!(matches!(&early[..], [Received::Missing(_, missing)] if missing[..] == [create]));
    let reversed = json.iter().rev().cloned().collect();
    let taken = staging.take_in(reversed, &keys()).await.expect("readable");
    assert!(taken.iter().all(|one| matches!(one, Received::Stored(_, storage::schema::rooms::Verdict::Accepted))));

    let unknown = OwnedEventId::try_from("$unknown").expect("an event id");
    let missing = staging.state(std::slice::from_ref(&unknown)).await;
    assert!(matches!(missing, Err(StageError::Missing(ids)) if ids == [unknown]));
    let empty = staging.state(&[]).await.expect("nothing to store");
    let join = there.join(9).json().as_bytes().to_vec();
    let refused = staging.clone().begin(join.clone(), empty, &keys(), Batch::new()).await;
    assert!(matches!(refused, Err(StageError::Refused(_))), "{refused:?}");
    let state = staging.state(&there.state_ids()).await.expect("stored");
    let unsigned = staging.clone().begin(json[5].clone(), state, &PublicKeyMap::new(), Batch::new()).await;
    assert!(matches!(unsigned, Err(StageError::Refused(_))), "{unsigned:?}");
    let mut rider = Batch::new();
    rider.assert_equals::<Counters>(&(Text::new("rider"),), &1);
    let overtaken = staging.clone().begin(join.clone(), state, &keys(), rider).await;
    assert!(matches!(overtaken, Err(StageError::RiderConflict)), "{overtaken:?}");
    assert!(matches!(here.rooms.room(there.id()).await, Err(RoomError::Unknown)));

    let room = staging.clone().begin(join.clone(), state, &keys(), Batch::new()).await.expect("begins");
    let before = here.storage.position();
    staging.clone().begin(join, state, &keys(), Batch::new()).await.expect("done before");
    assert_eq!(here.storage.position(), before);
    let another = there.join(10).json().as_bytes().to_vec();
    let joined = staging.begin(another, state, &keys(), Batch::new()).await;
    assert!(matches!(joined, Err(StageError::Joined)), "{joined:?}");
    check(&here, &there, &room).await;
}

#[tokio::test]
async fn a_room_that_everybody_here_has_left_comes_back_with_another_state() {
    let mut there = There::new("11", 5);
    let here = here(&MemoryDisk::new(), &Faults::none()).await;
    let room = bring(&here, &there, &there.join(20)).await.expect("begins");
    let bob = <&UserId>::try_from(BOB).expect("a user id");
    room.leave(bob, Details::default()).await.expect("leaves");
    for number in 5..9 {
        let user = format!("@u{number}:x");
        there.room.apply(&mut there.state, Draft::member(&user, &user, "join")).expect("everybody may join");
    }
    let user = "@u1:x";
    there.room.apply(&mut there.state, Draft::member(user, user, "leave")).expect("everybody may leave");
    let again = bring(&here, &there, &there.join(40)).await.expect("begins again");
    assert_eq!(again.nid(), room.nid());
    check(&here, &there, &again).await;
}
