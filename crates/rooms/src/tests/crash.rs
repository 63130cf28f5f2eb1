//! Crashes: after a fault at any step of any commit, what was acknowledged is there, and nothing is there in part.

use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use ruma::{EventId, OwnedEventId};
use serde_json::json;
use storage::{
    Direction, Fault, Faults, KeyRange, MemoryDisk, Options as StoreOptions, Step, Storage, Text,
    schema::{
        meta::Counters,
        rooms::{
            EventHeaders, EventIds, EventJson, LocalMembers, Memberships, RoomHeads, RoomIds, RoomLog, RoomLogEntry,
            Timeline,
        },
    },
};

use super::{ALICE, BOB, Server, current, marker, object, say, set, uid, user};
use crate::{CreateRoom, Details, Outgoing, Room, SendError, Sent, event_key};

pub(super) async fn server_on(disk: &MemoryDisk, faults: &Faults) -> Option<Server> {
    let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
    let shared: SharedClock = clock.clone();
    let options = StoreOptions { faults: faults.clone(), ..StoreOptions::memory(disk, "x") };
    let storage = Storage::open(options, &shared, &Random::seeded(1)).ok()?;
    Some(Server::on(storage, clock).await)
}

/// What clients do; each acknowledged event is noted.
async fn act(server: &Server, room: &Room, acknowledged: &mut Vec<OwnedEventId>) {
    let marked = Outgoing {
        riders: vec![marker("sent")],
        ..Outgoing::message(user(ALICE), "m.room.message", object(&json!({ "body": "marked" })))
    };
    let mut note = |sent: Result<Sent, SendError>| acknowledged.extend(sent.ok().map(|sent| sent.event_id));
    note(room.join(uid(BOB), Details::default()).await);
    note(room.send(marked).await);
    note(set(room, ALICE, "m.room.topic", "", json!({ "topic": "t" })).await);
    note(room.kick(uid(ALICE), uid(BOB), Details::default()).await);
    drop(server.rooms.create(CreateRoom { invite: vec![user(BOB)], ..CreateRoom::new(user(ALICE)) }).await);
}

/// Every row of a room agrees with every other.
pub(super) async fn check_whole(server: &Server) {
    let view = server.storage.view();
    let rooms = view.scan::<RoomIds>(&KeyRange::prefix(&()), 100, Direction::Forward).await.expect("readable");
    for ((Text(id),), nid) in rooms.rows {
        let room = server.rooms.room(id.as_str().try_into().expect("a room id")).await.expect("known");
        let head = view.get::<RoomHeads>(&(nid,)).await.expect("readable").expect("there");
        let log = view.scan::<RoomLog>(&KeyRange::prefix(&(nid,)), 100, Direction::Forward).await.expect("readable");
        let timeline =
            view.scan::<Timeline>(&KeyRange::prefix(&(nid,)), 100, Direction::Forward).await.expect("readable");
        assert_eq!((log.rows.len(), timeline.rows.len()), (head.next_rix as usize - 1, head.next_rix as usize - 1));
        for ((_, position, _), entry) in log.rows {
            let RoomLogEntry::Event { rix, .. } = entry else { panic!("only events happened") };
            let header = view.get::<EventHeaders>(&(nid, rix)).await.expect("readable").expect("there");
            assert_eq!(header.position, position);
            assert!(view.get::<EventJson>(&(nid, rix)).await.expect("readable").is_some());
            let event_id = <&EventId>::try_from(header.value.event_id.as_str()).expect("an id");
            let place = view.get::<EventIds>(&(event_key(event_id),)).await.expect("readable").expect("there");
            assert_eq!((place.room, place.rix), (nid, rix));
        }
        for name in [ALICE, BOB] {
            let user = server.nid(name).await;
            let member = current(&room, "m.room.member", name).await.and_then(|event| event.membership());
            let row = view.get::<Memberships>(&(user, nid)).await.expect("readable");
            assert_eq!(row.map(|row| row.value.membership), member);
            assert_eq!(view.get::<LocalMembers>(&(nid, user)).await.expect("readable"), member);
        }
    }
}

#[tokio::test]
async fn i1_i2_a_crash_at_any_step_leaves_whole_events_and_all_that_were_acknowledged() {
    for step in Step::ALL {
        for fault in [Fault::Fail, Fault::Stop] {
            for nth in 1..=5 {
                let (disk, faults) = (MemoryDisk::new(), Faults::new());
                let server = server_on(&disk, &faults).await.expect("opens");
                let room = server.public("12").await;
                let mut acknowledged = vec![say(&room, ALICE, "first").await.expect("sends").event_id];
                faults.at(step, nth, fault);
                act(&server, &room, &mut acknowledged).await;
                let refused = say(&room, ALICE, "too late").await;
                assert!(matches!(refused, Err(SendError::Unavailable)), "{step:?} {nth}: {refused:?}");
                drop(server);

                let server = server_on(&disk, &Faults::none()).await.expect("opens again");
                check_whole(&server).await;
                let (view, room) = (server.storage.view(), server.rooms.room(room.id()).await.expect("known"));
                for id in acknowledged {
                    assert!(
                        view.get::<EventIds>(&(event_key(&id),)).await.expect("readable").is_some(),
                        "{step:?} {nth}"
                    );
                }
                let marked = view.get::<Counters>(&(Text::new("sent"),)).await.expect("readable").is_some();
                let page = view.scan::<EventJson>(&KeyRange::prefix(&(room.nid(),)), 100, Direction::Forward).await;
                let there = page
                    .expect("readable")
                    .rows
                    .iter()
                    .any(|(_, json)| String::from_utf8_lossy(&json.0).contains("marked"));
                assert_eq!(marked, there, "{step:?} {nth}");
                say(&room, ALICE, "on").await.expect("the room goes on");
            }
        }
    }
}
