//! The lists of who is typing.

use std::sync::Arc;

use primitives::ManualClock;
use ruma::{server_name, user_id};
use users::News;

use super::*;
use crate::tests::{ALICE, BOB, Server, uid};

const ROOM: RoomNid = RoomNid(3);

fn typing() -> (Typing, Arc<ManualClock>) {
    let clock = ManualClock::new(primitives::UnixMillis(0));
    (Typing::new(clock.clone(), Wakeups::default()), clock)
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_list_changes_when_somebody_comes_or_goes_and_not_when_they_go_on() {
    let (typing, clock) = typing();
    let (alice, bob) = (user_id!("@alice:x"), user_id!("@bob:x"));
    assert_eq!(typing.begin(ROOM, alice, SOON), Some(1));
    assert_eq!(typing.begin(ROOM, bob, SOON), Some(2));
    clock.advance(Duration::from_secs(6));
    assert_eq!(typing.begin(ROOM, alice, SOON), None);
    assert_eq!(typing.changes(&[ROOM, RoomNid(4)]), [2, 0]);
    clock.advance(Duration::from_secs(5));
    assert_eq!(typing.list(ROOM), [alice], "over without anybody having looked");
    let (expired, next) = typing.expire(server_name!("x"));
    let ended = [bob.to_owned()].into();
    assert_eq!((expired, next), (vec![Expired { room: ROOM, change: 3, ended }], Some(Duration::from_secs(5))));
    assert_eq!(typing.end(ROOM, alice), Some(4));
    assert_eq!(typing.end(ROOM, alice), None);
    assert_eq!(typing.expire(server_name!("x")), (vec![], None));
    assert!(typing.list(ROOM).is_empty());
}

#[test]
fn others_are_told_of_who_begins_and_now_and_then_of_who_goes_on() {
    let (typing, clock) = typing();
    let (alice, far) = (user_id!("@alice:x"), user_id!("@far:y"));
    assert!(!typing.tells_others(ROOM, alice), "nobody types");
    typing.begin(ROOM, alice, MAX_TYPING);
    assert!(typing.tells_others(ROOM, alice) && !typing.tells_others(ROOM, alice));
    clock.advance(TELL_AGAIN);
    typing.begin(ROOM, alice, SOON);
    assert!(typing.tells_others(ROOM, alice));
    typing.end(ROOM, alice);
    typing.begin(ROOM, alice, SOON);
    assert!(typing.tells_others(ROOM, alice), "begun anew");
    typing.begin(ROOM, far, SOON);
    clock.advance(SOON);
    let (expired, _) = typing.expire(server_name!("x"));
    assert_eq!(expired[0].ended, [alice.to_owned()].into(), "others tell of their own");
}

#[test]
fn the_first_word_after_a_start_counts() {
    let (typing, _) = typing();
    assert_eq!(typing.end(ROOM, user_id!("@alice:x")), Some(1), "clients may show her as typing");
    assert_eq!(typing.end(ROOM, user_id!("@alice:x")), None);
}

#[test]
fn spans_and_lists_are_bounded() {
    let (typing, clock) = typing();
    for number in 0..=MAX_TYPISTS {
        let user = OwnedUserId::try_from(format!("@user{number}:x")).expect("a user id");
        assert_eq!(typing.begin(ROOM, &user, Duration::from_secs(1 << 40)).is_some(), number < MAX_TYPISTS);
    }
    clock.advance(MAX_TYPING);
    assert_eq!(typing.expire(server_name!("x")).0.len(), 1);
    assert!(typing.list(ROOM).is_empty());
}

#[test]
fn rooms_that_are_quiet_longest_are_forgotten_first() {
    let mut rooms: HashMap<RoomNid, Typists> =
        (1..=10).map(|number| (RoomNid(number), Typists { changed: number.into(), ..Typists::default() })).collect();
    rooms.entry(RoomNid(1)).or_default().until.insert(user_id!("@alice:x").to_owned(), SOON);
    forget_half(&mut rooms);
    let mut left: Vec<_> = rooms.into_keys().map(|room| room.0).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 7, 8, 9, 10]);
}

#[tokio::test]
async fn who_leaves_types_no_more_and_strangers_never_do() {
    let server = Server::new().await;
    let room = server.public("12").await;
    assert!(matches!(room.set_typing(uid(BOB), Some(SOON)).await, Err(TypingError::NotInRoom)));
    room.join(uid(BOB), crate::Details::default()).await.expect("joins");
    let mut waiter = server.users.wakeups().waiter(server.nid(ALICE).await);
    room.set_typing(uid(BOB), Some(SOON)).await.expect("types");
    let typing = server.rooms.reads().typing();
    assert_eq!(typing.list(room.nid()), [uid(BOB)]);
    let news = News { position: server.storage.position(), ephemeral: 0 };
    assert_eq!(waiter.newer_than(news).await.ephemeral, 1);
    room.leave(uid(BOB), crate::Details::default()).await.expect("leaves");
    assert!(typing.list(room.nid()).is_empty());
    assert_eq!(typing.changes(&[room.nid()]), [2]);
}

#[tokio::test]
async fn what_runs_out_is_told_in_the_background() {
    let server = Server::new().await;
    let room = server.public("12").await;
    room.set_typing(uid(ALICE), Some(SOON)).await.expect("types");
    let mut waiter = server.users.wakeups().waiter(server.nid(ALICE).await);
    server.clock.advance(SOON);
    assert_eq!(server.rooms.run_due().await, None);
    let news = News { position: server.storage.position(), ephemeral: 1 };
    assert_eq!(waiter.newer_than(news).await.ephemeral, 2);
}
