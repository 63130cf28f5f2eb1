//! What is stored of receipts.

use super::*;
use crate::{
    Marks, ReceiptError, RemoteReceipt,
    read::Reader,
    tests::{ALICE, Server, say, uid, user},
};

async fn reader(server: &Server, id: &str) -> Reader {
    Reader { user_id: user(id), user_nid: server.nid(id).await, device_id: None }
}

/// How many receipts there are in a room, and how many rows tell of them.
async fn rows(server: &Server, room: RoomNid) -> (usize, usize) {
    let (view, range) = (server.storage.view(), KeyRange::prefix(&(room,)));
    let receipts = view.scan::<Receipts>(&range, 10_000, Direction::Forward).await.expect("read").rows.len();
    let log = view.scan::<ReceiptLog>(&range, 10_000, Direction::Forward).await.expect("read").rows.len();
    (receipts, log)
}

fn remote(number: usize, thread: Thread, event_id: &str) -> RemoteReceipt {
    let user_id = format!("@user{number}:other").try_into().expect("a user id");
    RemoteReceipt { user_id, thread, event_id: event_id.to_owned(), ts: 7 }
}

#[tokio::test]
async fn a_receipt_that_moves_leaves_nothing_where_it_was() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let alice = reader(&server, ALICE).await;
    for round in 0..5 {
        let sent = say(&room, ALICE, &round.to_string()).await.expect("sends");
        let marks = Marks {
            receipts: vec![
                (ReceiptType::Read, Thread::Unthreaded, sent.event_id.clone()),
                (ReceiptType::ReadPrivate, Thread::Main, sent.event_id.clone()),
            ],
            fully_read: Some(sent.event_id.clone()),
        };
        let before = server.storage.position();
        room.mark_read(&alice, &marks).await.expect("marked");
        assert_eq!(server.storage.position(), before.next(), "one batch");
        assert_eq!(rows(&server, room.nid()).await, (2, 2));
        let receipts = of_user(&server.storage.view(), room.nid(), uid(ALICE)).await.expect("read");
        assert!(receipts.iter().all(|r| r.event_id == sent.event_id && r.position == before.next()));
        room.mark_read(&alice, &marks).await.expect("nothing to do");
        assert_eq!(server.storage.position(), before.next());
    }
    let view = server.storage.view();
    let room_view = RoomView::by_number(&view, server.rooms.reads().caches(), room.nid()).await.expect("read");
    let since = since(&room_view.expect("there"), StreamPosition::ZERO).await.expect("read");
    assert_eq!(since, of_room(&server.storage.view(), room.nid()).await.expect("read"));
}

#[tokio::test]
async fn receipts_of_other_servers_are_kept_also_of_unknown_events() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let (one, two) = (say(&room, ALICE, "1").await.expect("sends"), say(&room, ALICE, "2").await.expect("sends"));
    let keep = async |event: &str| {
        room.keep_receipts(&[remote(1, Thread::Unthreaded, event)]).await.expect("kept");
        let receipts = of_room(&server.storage.view(), room.nid()).await.expect("read");
        receipts.into_iter().map(|receipt| receipt.event_id).collect::<Vec<_>>()
    };
    assert_eq!(keep("$unknown").await, ["$unknown"]);
    assert_eq!(keep(two.event_id.as_str()).await, [two.event_id.as_str()]);
    assert_eq!(keep(one.event_id.as_str()).await, [two.event_id.as_str()], "never backwards");
    assert_eq!(keep("$later").await, ["$later"], "what can't be compared is believed");
    let many: Vec<_> = (0..1_100).map(|number| remote(number, Thread::Main, "$x")).collect();
    room.keep_receipts(&many).await.expect("kept");
    assert_eq!(rows(&server, room.nid()).await, (1_101, 1_101));
}

#[tokio::test]
async fn a_user_has_a_bounded_number_of_receipts() {
    let server = Server::new().await;
    let room = server.public("12").await;
    for number in 0..1_002 {
        let thread = Thread::parse(&format!("$root{number}")).expect("a thread");
        room.keep_receipts(&[remote(1, thread, "$x")]).await.expect("kept");
    }
    assert_eq!(rows(&server, room.nid()).await, (1_000, 1_000));
    let receipts = of_room(&server.storage.view(), room.nid()).await.expect("read");
    let roots: Vec<_> = receipts.iter().filter_map(|receipt| receipt.thread.thread_id()).collect();
    assert!(!roots.contains(&"$root0") && !roots.contains(&"$root1") && roots.contains(&"$root1001"));
}

#[tokio::test]
async fn history_comes_before_what_arrived() {
    use primitives::{Rank, Rix};
    let backfilled = |rank, rix| Place::Backfilled(Rank(rank), Rix(rix));
    let arrived = |position, rix| Place::Arrived(StreamPosition(position), Rix(rix));
    let order = [backfilled(5, 9), backfilled(6, 1), backfilled(6, 2), arrived(1, 3), arrived(2, 1), arrived(2, 2)];
    assert!(order.is_sorted());
}

#[tokio::test]
async fn strangers_leave_no_receipts() {
    let server = Server::new().await;
    let room = server.public("12").await;
    let sent = say(&room, ALICE, "1").await.expect("sends");
    let bob = reader(&server, crate::tests::BOB).await;
    let marks = Marks { receipts: vec![(ReceiptType::Read, Thread::Main, sent.event_id)], fully_read: None };
    assert!(matches!(room.mark_read(&bob, &marks).await, Err(ReceiptError::NotInRoom)));
    assert_eq!(rows(&server, room.nid()).await, (0, 0));
}
