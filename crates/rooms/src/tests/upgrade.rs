//! Upgrades that are overtaken or cut short.

use ruma::{OwnedRoomId, RoomAliasId};
use serde_json::{Value, json};
use storage::{Fault, Faults, MemoryDisk, Step, schema::rooms::EventLocal};

use super::{
    ALICE, BOB, Server,
    crash::{check_whole, server_on},
    current, set, uid, user,
};
use crate::{Details, Reader, Room, SendError, Upgrade, UpgradeError};

fn by(id: &str) -> Upgrade {
    Upgrade { by: user(id), version: "11".to_owned(), additional_creators: Vec::new(), local: EventLocal::default() }
}

async fn content(room: &Room, kind: &str) -> Option<Value> {
    current(room, kind, "").await.map(|event| event.content_as().expect("JSON"))
}

/// The room that the old one says replaces it.
async fn replacement(room: &Room) -> Option<OwnedRoomId> {
    let tombstone = content(room, "m.room.tombstone").await?;
    Some(tombstone["replacement_room"].as_str()?.try_into().expect("a room id"))
}

async fn rooms_of(server: &Server, name: &str) -> Vec<OwnedRoomId> {
    let reader = Reader { user_id: user(name), user_nid: server.nid(name).await, device_id: None };
    server.rooms.reads().joined_rooms(&reader).await.expect("readable")
}

async fn den(server: &Server) -> Room {
    let room = server.public("11").await;
    let alias = RoomAliasId::parse("#den:x").expect("an alias");
    server.rooms.create_alias(uid(ALICE), &alias, room.id()).await.expect("makes");
    room
}

async fn where_den_is(server: &Server) -> OwnedRoomId {
    let alias = RoomAliasId::parse("#den:x").expect("an alias");
    server.rooms.resolve_alias(&alias).await.expect("leads somewhere")
}

#[tokio::test]
async fn of_two_upgrades_at_once_one_replaces_the_room() {
    let server = Server::new().await;
    let room = den(&server).await;
    room.join(uid(BOB), Details::default()).await.expect("joins");
    let levels = json!({ "users": { ALICE: 100, BOB: 100 } });
    set(&room, ALICE, "m.room.power_levels", "", levels).await.expect("sends");
    let (alices, bobs) = tokio::join!(room.upgrade(by(ALICE)), room.upgrade(by(BOB)));
    let (winner, loser, name) = match (alices, bobs) {
        (Ok(winner), Err(loser)) => (winner, loser, BOB),
        (Err(loser), Ok(winner)) => (winner, loser, ALICE),
        both => panic!("one of them: {both:?}"),
    };
    assert!(matches!(loser, UpgradeError::Overtaken), "{loser:?}");
    assert_eq!((replacement(&room).await, where_den_is(&server).await), (Some(winner.clone()), winner.clone()));
    let rooms = rooms_of(&server, name).await;
    assert_eq!(rooms, [room.id().to_owned()], "the other new room is left");
    // A room that was replaced can be replaced again.
    let again = room.upgrade(by(ALICE)).await.expect("upgrades");
    assert_eq!(replacement(&room).await, Some(again));
    assert_eq!(where_den_is(&server).await, winner, "which is not this room's any more");
}

#[tokio::test]
async fn a_crash_leaves_the_old_room_as_it_was_or_replaced_with_all_its_names() {
    for step in [Step::Write, Step::Sync, Step::Acknowledge] {
        for nth in 1..=4 {
            let (disk, faults) = (MemoryDisk::new(), Faults::new());
            let server = server_on(&disk, &faults).await.expect("opens");
            let room = den(&server).await;
            let id = room.id().to_owned();
            faults.at(step, nth, Fault::Stop);
            let upgraded = room.upgrade(by(ALICE)).await;
            drop((room, server));
            let server = server_on(&disk, &Faults::none()).await.expect("opens again");
            check_whole(&server).await;
            let room = server.rooms.room(&id).await.expect("known");
            let replaced = replacement(&room).await;
            assert_eq!(where_den_is(&server).await, replaced.clone().unwrap_or(id), "{step:?} {nth}");
            if let Ok(new) = upgraded {
                assert_eq!(replaced.as_ref(), Some(&new), "{step:?} {nth}");
            }
            let Some(new) = replaced else { continue };
            let new = server.rooms.room(&new).await.expect("known");
            let create = content(&new, "m.room.create").await.expect("there");
            assert_eq!(create["predecessor"]["room_id"], room.id().as_str());
            let reads = server.rooms.reads();
            assert!(reads.is_published(new.nid()).await.expect("readable"));
            assert!(!reads.is_published(room.nid()).await.expect("readable"));
        }
    }
}

#[tokio::test]
async fn who_may_not_send_a_tombstone_may_not_upgrade() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let refused = room.upgrade(by(BOB)).await;
    assert!(matches!(refused, Err(UpgradeError::Send(SendError::NotInRoom))), "{refused:?}");
    room.join(uid(BOB), Details::default()).await.expect("joins");
    let refused = room.upgrade(by(BOB)).await;
    assert!(matches!(refused, Err(UpgradeError::Send(SendError::Forbidden { .. }))), "{refused:?}");
    assert_eq!(rooms_of(&server, BOB).await, [room.id().to_owned()], "nothing is made");
}
