use std::time::Duration;

use primitives::UnixMillis;
use storage::schema::delayed::{CancelReason, FailureKind, NewerState, Outcome, TimerAction};

use super::support::{Lab, START};
use crate::{Event, Options, Status};

#[tokio::test]
async fn an_event_is_sent_when_it_is_due_and_not_before() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    lab.pass(1_000).await;
    assert!(lab.world.taken().is_empty());
    lab.pass(1).await;
    let taken = lab.world.taken().remove(0);
    assert_eq!((taken.at, taken.sender), (UnixMillis(START + 1_001), lab.alice.clone()));
    assert_eq!(taken.local.delay_id.as_deref(), Some(id.as_str()));
    assert_eq!((taken.local.transaction_id, taken.origin_server_ts), (None, None));
    let (at, outcome) = lab.get(&id).await.finalised.expect("ended");
    assert_eq!(
        (at, outcome),
        (UnixMillis(START + 1_001), Outcome::Sent { event_id: taken.event_id.to_string(), early: false })
    );
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn case_20_and_21_power_is_judged_when_it_is_sent() {
    let lab = Lab::new().await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    lab.schedule(Lab::event(1), 10).await;
    let second = lab.schedule(Lab::event(2), 20).await;
    lab.world.refuse(&lab.alice, None);
    lab.pass(11).await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    lab.pass(11).await;
    assert_eq!(lab.world.numbers(), [1]);
    assert!(
        matches!(lab.get(&second).await.finalised, Some((_, Outcome::Failed(f))) if f.kind == FailureKind::Forbidden)
    );
}

#[tokio::test]
async fn case_22_over_the_send_limit_it_fails_and_is_not_tried_again() {
    let lab = Lab::new().await;
    lab.world.refuse(&lab.alice, Some(FailureKind::LimitExceeded));
    let id = lab.schedule(Lab::event(1), 10).await;
    lab.pass(11).await;
    lab.world.refuse(&lab.alice, None);
    lab.pass(600_000).await;
    assert_eq!((lab.world.attempts(), lab.world.taken().len()), (1, 0));
    assert!(
        matches!(lab.get(&id).await.finalised, Some((_, Outcome::Failed(f))) if f.kind == FailureKind::LimitExceeded)
    );
}

#[tokio::test]
async fn after_a_fault_it_is_tried_again_until_it_works_and_the_order_holds() {
    let lab = Lab::new().await;
    lab.world.fail(7);
    for n in 1..=3 {
        lab.schedule(Lab::event(n), 10).await;
    }
    lab.pass(11).await;
    assert_eq!(lab.engine.pending(), 3);
    for _ in 0..40 {
        lab.pass(50).await;
    }
    assert_eq!(lab.world.taken().len(), 3);
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn case_24_and_25_what_fell_due_while_down_is_sent_at_the_start_oldest_first() {
    let mut lab = Lab::new().await;
    lab.schedule(Lab::state("k", 3), 300).await;
    lab.schedule(Lab::state("k", 1), 100).await;
    lab.schedule(Lab::event(2), 200).await;
    lab.schedule(Lab::event(4), 300).await;
    lab.schedule(Lab::event(5), 60_000).await;
    lab.down().await;
    lab.pass(10_000).await;
    assert!(lab.world.taken().is_empty());
    lab.up().await;
    assert_eq!(lab.world.numbers(), [1, 2, 3, 4]);
    assert_eq!(lab.list(Status::Scheduled).await.len(), 1);
}

#[tokio::test]
async fn case_26_steps_of_the_wall_clock_neither_hurry_nor_hold_up_a_delay() {
    for wall in [START - 3_600_000, START + 3_600_000, START + 31_536_000_000, START - 31_536_000_000] {
        let lab = Lab::new().await;
        lab.schedule(Lab::event(1), 10_000).await;
        lab.pass(3_000).await;
        lab.clock.step_wall(UnixMillis(wall));
        for _ in 0..3 {
            lab.pass(2_000).await;
        }
        lab.pass(999).await;
        assert!(lab.world.taken().is_empty(), "early with the clock at {wall}");
        lab.pass(2).await;
        assert_eq!(lab.world.numbers(), [1], "late with the clock at {wall}");
    }
}

#[tokio::test]
async fn time_in_which_the_machine_was_suspended_counts() {
    const HOUR: u64 = 3_600_000;
    let lab = Lab::new().await;
    lab.schedule(Lab::event(1), HOUR).await;
    lab.schedule(Lab::event(3), 3 * HOUR).await;
    // As the system's clock does it: both go on, and nobody is woken meanwhile.
    lab.pass(2 * HOUR).await;
    assert_eq!(lab.world.numbers(), [1]);
    lab.pass(HOUR + 1).await;
    assert_eq!(lab.world.numbers(), [1, 3]);
}

#[tokio::test]
async fn case_26_what_was_loaded_is_due_by_the_wall_clock_once_that_is_right() {
    let mut lab = Lab::new().await;
    lab.schedule(Lab::event(1), 60_000).await;
    lab.down().await;
    // The machine comes up with a clock that is a day behind, and then learns the time.
    lab.clock.step_wall(UnixMillis(START - 86_400_000));
    lab.up().await;
    lab.pass(2_000).await;
    assert!(lab.world.taken().is_empty());
    lab.clock.step_wall(UnixMillis(START + 61_000));
    lab.pass(2_000).await;
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn case_27_and_28_newer_state_is_survived_by_default() {
    let lab = Lab::new().await;
    lab.schedule(Lab::state("k", 1), 100).await;
    lab.world.set_state(&lab.bob, &lab.room, "org.example.call", "k").await;
    lab.world.set_state(&lab.alice, &lab.room, "org.example.call", "k").await;
    assert_eq!(lab.list(Status::Scheduled).await.len(), 1);
    lab.pass(101).await;
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn newer_state_cancels_where_that_is_the_policy() {
    for (policy, own, cancels) in [
        (NewerState::OtherSenderCancels, false, true),
        (NewerState::OtherSenderCancels, true, false),
        (NewerState::Cancels, true, true),
        (NewerState::Cancels, false, true),
    ] {
        let lab = Lab::with(Options { newer_state: policy, ..Options::default() }).await;
        let id = lab.schedule(Lab::state("k", 1), 100).await;
        lab.schedule(Lab::state("other", 2), 100).await;
        lab.schedule(Lab::event(3), 100).await;
        lab.world.set_state(if own { &lab.alice } else { &lab.bob }, &lab.room, "org.example.call", "k").await;
        // Readers are told at once, the store when it is due.
        let scheduled = if cancels { 2 } else { 3 };
        assert_eq!(lab.list(Status::Scheduled).await.len(), scheduled, "{policy:?}");
        assert_eq!(lab.get(&id).await.finalised.is_some(), cancels);
        lab.pass(101).await;
        assert_eq!(lab.world.numbers(), if cancels { vec![2, 3] } else { vec![1, 2, 3] }, "{policy:?}");
        let outcome = lab.get(&id).await.finalised.expect("ended").1;
        assert_eq!(outcome == Outcome::Cancelled(CancelReason::NewerState), cancels);
    }
}

#[tokio::test]
async fn case_34_a_timestamp_shows_in_the_event_and_not_in_the_time_of_its_end() {
    let lab = Lab::new().await;
    let id = lab.schedule(Event { origin_server_ts: Some(UnixMillis(5)), ..Lab::event(1) }, 10).await;
    lab.pass(11).await;
    assert_eq!(lab.world.taken()[0].origin_server_ts, Some(UnixMillis(5)));
    assert_eq!(lab.get(&id).await.finalised.expect("ended").0, UnixMillis(START + 11));
}

#[tokio::test]
async fn case_36_the_sticky_duration_survives_an_early_send() {
    let lab = Lab::new().await;
    let sticky_duration = Some(Duration::from_mins(1));
    let id = lab.schedule(Event { sticky_duration, ..Lab::event(1) }, 1_000).await;
    lab.act(&id, TimerAction::Send).await.expect("sent");
    assert_eq!(lab.world.taken()[0].sticky_duration, sticky_duration);
    assert!(matches!(lab.get(&id).await.finalised, Some((_, Outcome::Sent { early: true, .. }))));
}

#[tokio::test]
async fn an_event_of_a_room_that_is_gone_is_cancelled() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 10).await;
    lab.world.forget_room(&lab.room);
    lab.pass(11).await;
    assert_eq!(lab.get(&id).await.finalised.expect("ended").1, Outcome::Cancelled(CancelReason::Room));
}

#[tokio::test]
async fn case_45_ten_thousand_due_at_one_instant_are_all_sent_once_in_order() {
    let options = Options { enforce: false, ..Options::default() };
    let lab = Lab::with(options).await;
    let rooms = lab.more_rooms(10);
    for n in 0..10_000_i32 {
        let mut request = lab.request(Lab::event(n), 1_000);
        request.room_id = rooms[usize::try_from(n).expect("positive") % 10].clone();
        lab.try_schedule(request).await.expect("scheduled");
    }
    lab.clock.advance(Duration::from_millis(1_001));
    while lab.engine.pending() > 0 {
        tokio::task::yield_now().await;
    }
    let taken = lab.world.taken();
    assert_eq!(taken.len(), 10_000);
    for room in &rooms {
        let numbers: Vec<_> =
            taken.iter().filter(|t| t.room_id == *room).filter_map(|t| t.content["n"].as_integer()).collect();
        assert!(numbers.len() == 1_000 && numbers.is_sorted());
    }
}

#[tokio::test]
async fn a_users_flood_does_not_hold_up_another_users_event() {
    let lab = Lab::with(Options { enforce: false, ..Options::default() }).await;
    for n in 0..5_000 {
        lab.schedule(Lab::event(n), 1_000).await;
    }
    let mut of_bob = lab.request(Lab::event(-1), 1_001);
    of_bob.user_id = lab.bob.clone();
    lab.try_schedule(of_bob).await.expect("scheduled");
    lab.clock.advance(Duration::from_millis(1_002));
    while !lab.world.numbers().contains(&-1) {
        tokio::task::yield_now().await;
    }
    let place = lab.world.numbers().iter().position(|n| *n == -1).expect("sent");
    assert!(place < 200, "{place} of the flood came first");
}
