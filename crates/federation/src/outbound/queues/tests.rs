//! What is kept in memory, what is written, and whose turn it is.

use primitives::Rix;
use ruma::server_name;

use super::*;

const NOBODY_PAUSES: fn(&ServerName) -> Option<Duration> = |_| None;

fn event(room: u32, position: u64) -> Owed {
    Owed { room: RoomNid(room), rix: Rix(u32::try_from(position).expect("small")), position: StreamPosition(position) }
}

fn x() -> OwnedServerName {
    server_name!("x.test").to_owned()
}

fn queues() -> Queues {
    Queues::new(OutboundOptions { queue_max_pdus: 3, concurrent: 1, ..OutboundOptions::default() }, StreamPosition(10))
}

/// Follows the logs up to a position, in which these events are for `x.test`.
fn follow(queues: &mut Queues, events: &[Owed], upto: u64) {
    for owed in events {
        queues.push(&x(), *owed, false);
    }
    queues.follow_to(StreamPosition(upto), Duration::ZERO);
}

fn waiting(queues: &Queues) -> Vec<u64> {
    match queues.take(&x()) {
        Some(Next::Events(owed, _)) => owed.iter().map(|owed| owed.position.0).collect(),
        other => panic!("{other:?}"),
    }
}

fn acknowledge(queues: &mut Queues, pdus: usize) -> Standing {
    let standing = queues.standing(&x(), pdus);
    queues.acknowledged(&x(), pdus, standing);
    standing
}

#[test]
fn the_floor_passes_nothing_that_is_neither_acknowledged_nor_written() {
    let mut queues = queues();
    // Rooms are read one after another: the second has an older event.
    follow(&mut queues, &[event(1, 14), event(2, 12)], 20);
    assert_eq!(queues.floor(), Some(StreamPosition(11)));
    assert_eq!(acknowledge(&mut queues, 1).acknowledged, StreamPosition(11), "the older one is not acknowledged");
    assert_eq!(queues.floor(), Some(StreamPosition(11)));
    queues.kept(StreamPosition(11));
    assert_eq!(queues.floor(), None);
    assert_eq!(acknowledge(&mut queues, 1).acknowledged, StreamPosition(20));
    assert_eq!(queues.floor(), Some(StreamPosition(20)));
    follow(&mut queues, &[event(1, 15)], 20);
    assert!(queues.take(&x()).is_none(), "it has that");
}

#[test]
fn what_waits_for_a_server_that_cannot_be_reached_is_written_once_and_stays_in_memory() {
    let mut queues = queues();
    follow(&mut queues, &[event(1, 12), event(1, 13)], 20);
    queues.cover(|_| true);
    assert_eq!(queues.take_debts(9), [(x(), event(1, 13))], "the newest of the room");
    assert_eq!(queues.floor(), Some(StreamPosition(20)));
    queues.cover(|_| true);
    assert!(queues.take_debts(9).is_empty());
    assert_eq!(waiting(&queues), [12, 13]);
    assert!(!acknowledge(&mut queues, 1).owed_nothing);
    assert!(acknowledge(&mut queues, 1).owed_nothing);
    follow(&mut queues, &[event(1, 21)], 22);
    assert!(!acknowledge(&mut queues, 1).owed_nothing, "nothing was written since");
}

#[test]
fn a_server_that_falls_behind_is_owed_the_newest_of_each_room() {
    let mut queues = queues();
    follow(&mut queues, &[event(1, 11), event(2, 12), event(1, 13), event(1, 14)], 20);
    assert!(matches!(queues.take(&x()), Some(Next::Debts(_))));
    follow(&mut queues, &[event(2, 21)], 30);
    assert_eq!(queues.floor(), Some(StreamPosition(13)), "not yet written");
    let debts = queues.take_debts(9);
    assert_eq!(debts, [(x(), event(1, 14)), (x(), event(2, 21))]);
    assert_eq!(queues.floor(), Some(StreamPosition(30)));
    queues.put_back(debts);
    follow(&mut queues, &[event(1, 31)], 40);
    queues.put_back(vec![(x(), event(1, 14))]);
    assert!(!queues.caught_up(&x()), "there is more to be written");
    assert_eq!(queues.take_debts(9), [(x(), event(1, 31)), (x(), event(2, 21))], "an older one takes no place");
    assert!(queues.caught_up(&x()));
    assert_eq!(queues.acknowledged_by(&x()), Some(StreamPosition(40)));
    follow(&mut queues, &[event(1, 41)], 50);
    assert_eq!(waiting(&queues), [41]);
}

#[test]
fn refused_transactions_are_halved_and_grow_again() {
    let mut queues = queues();
    follow(&mut queues, &[event(1, 11), event(1, 12), event(1, 13)], 20);
    assert!(!queues.refused(&x(), 3));
    assert_eq!(waiting(&queues), [11]);
    acknowledge(&mut queues, 1);
    queues.accepted(&x());
    assert_eq!(waiting(&queues), [12, 13]);
    assert!((1..REFUSED_IN_A_ROW).all(|_| !queues.refused(&x(), 1)));
    assert!(queues.refused(&x(), 1), "it refuses everything");
    assert!(!queues.refused(&x(), 1), "counted anew");
}

#[test]
fn turns_are_bounded_and_pauses_kept() {
    let (mut queues, y) = (queues(), server_name!("y.test").to_owned());
    follow(&mut queues, &[event(1, 11)], 20);
    queues.push(&y, event(1, 11), false);
    let now = Duration::from_secs(100);
    assert_eq!(queues.next(now, NOBODY_PAUSES), Some(x()));
    assert_eq!(queues.next(now, NOBODY_PAUSES), None, "one at a time");
    queues.rest(&x(), Some(now + Duration::from_mins(1)));
    assert_eq!(queues.next(now, |_| Some(Duration::from_secs(30))), None, "left alone");
    assert_eq!(queues.due(), Some(Duration::from_secs(1)), "what was followed is to be written");
    assert!(queues.keeps_now(now));
    assert_eq!(queues.due(), Some(now + Duration::from_secs(30)));
    queues.push(&y, event(1, 12), false);
    assert_eq!(queues.next(now + Duration::from_secs(29), NOBODY_PAUSES), None, "more to send ends no pause");
    queues.revive(&x());
    assert_eq!(queues.next(now, NOBODY_PAUSES), Some(x()));
    acknowledge(&mut queues, 1);
    queues.rest(&x(), None);
    assert!(!queues.knows(&x()), "nothing waits for it");
    assert_eq!(queues.next(now + Duration::from_secs(30), NOBODY_PAUSES), Some(y));
}
