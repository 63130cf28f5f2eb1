use std::time::Duration;

use storage::schema::delayed::{CancelReason, FailureKind, NewerState, Outcome, TimerAction};

use super::support::Lab;
use crate::{
    ActError, Drain, Drained, Group, ListError, NewDelayed, OperatorCancel, Options, ScheduleError, Status, life::State,
};

fn action_future(n: i32) -> NewDelayed {
    NewDelayed { event: Lab::event(n), delay: None, name: Some("leave".to_owned()), tokens: true }
}

/// A group of one event with a timer and one without.
async fn group(lab: &Lab, n: i32, delay: u64) -> crate::Receipt {
    let mut request = lab.request(Lab::event(n), delay);
    (request.group, request.events[0].tokens) = (Group::New, true);
    request.events.push(action_future(n + 1));
    lab.engine.schedule(request).await.expect("scheduled")
}

fn numbers(page: &crate::AllListed) -> Vec<i64> {
    let n = |found: &crate::Found| Some(i64::from(found.event.content.get("n")?.as_integer()?));
    page.events.iter().filter_map(n).collect()
}

#[tokio::test]
async fn everybodys_events_are_listed_by_due_time_page_by_page_with_totals() {
    let lab = Lab::new().await;
    for (n, delay) in [(1, 500), (2, 100), (3, 300)] {
        lab.schedule(Lab::event(n), delay).await;
        let mut of_bob = lab.request(Lab::event(n + 10), delay + 1);
        of_bob.user_id = lab.bob.clone();
        lab.try_schedule(of_bob).await.expect("scheduled");
    }
    group(&lab, 20, 50).await;
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let page = lab.engine.list_all(from.as_deref(), Some(3)).await.expect("the store works");
        assert_eq!((page.pending, page.users), (8, 2));
        seen.push(numbers(&page));
        from = page.next_batch;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, [vec![20, 2, 12], vec![3, 13, 1], vec![11, 21]]);
    let page = lab.engine.list_all(None, None).await.expect("the store works");
    assert_eq!((page.events[1].user_id.clone(), page.events[2].user_id.clone()), (lab.alice.clone(), lab.bob.clone()));
    assert_eq!(lab.engine.pending_of(&lab.bob).await.expect("the store works"), Some(3));
    assert_eq!(lab.engine.pending_of(ruma::user_id!("@eve:example.org")).await.expect("the store works"), None);
    for bad in ["nonsense", "f1_2"] {
        assert!(matches!(lab.engine.list_all(Some(bad), None).await, Err(ListError::BadToken)), "{bad}");
    }
}

#[tokio::test]
async fn an_event_is_found_by_its_number_and_by_its_id_with_its_group() {
    let lab = Lab::new().await;
    let receipt = group(&lab, 1, 1_000).await;
    let (timed, untimed) = (&receipt.events[0].delay_id, &receipt.events[1].delay_id);
    let number = lab.engine.number_of(timed);
    assert_eq!(lab.engine.number(timed.as_str()), number);
    assert_eq!(lab.engine.number(&number.to_string()), number);
    let (found, group) = lab.engine.inspect(number).await.expect("the store works").expect("it is there");
    assert_eq!(
        (&found.user_id, &found.event.delay_id, found.event.due()),
        (&lab.alice, timed, Some(lab.clock_now().plus(Duration::from_secs(1))))
    );
    let group = group.expect("a group");
    let untimed_number = lab.engine.number_of(untimed);
    let scheduled = |timed| State::Scheduled { timed };
    assert_eq!(
        (group.open, group.members),
        (true, vec![(number, scheduled(true)), (untimed_number, scheduled(false))])
    );
    lab.act(untimed, TimerAction::Send).await.expect("sent");
    let (found, group) = lab.engine.inspect(number).await.expect("the store works").expect("it is kept");
    assert_eq!(found.event.finalised.expect("ended").1, Outcome::Cancelled(CancelReason::Group));
    let group = group.expect("a group");
    assert_eq!((group.open, group.members), (false, vec![(number, State::Cancelled), (untimed_number, State::Sent)]));
    assert!(lab.engine.inspect(lab.engine.number("nothing")).await.expect("the store works").is_none());
}

#[tokio::test]
async fn an_operator_cancels_one_event_and_is_told_what_had_become_of_it() {
    let lab = Lab::new().await;
    let cancel = async |id: &crate::DelayId| lab.engine.cancel_number(lab.engine.number_of(id)).await.expect("works");
    let single = lab.schedule(Lab::event(1), 1_000).await;
    assert_eq!(cancel(&single).await, OperatorCancel::Cancelled(1));
    assert_eq!(cancel(&single).await, OperatorCancel::Before(State::Cancelled));
    assert_eq!(lab.get(&single).await.finalised.expect("ended").1, Outcome::Cancelled(CancelReason::Operator));
    let receipt = group(&lab, 2, 1_000).await;
    assert_eq!(cancel(&receipt.events[0].delay_id).await, OperatorCancel::Cancelled(2));
    let sent = lab.schedule(Lab::event(4), 1_000).await;
    lab.act(&sent, TimerAction::Send).await.expect("sent");
    assert_eq!(cancel(&sent).await, OperatorCancel::Before(State::Sent));
    assert_eq!(cancel(&crate::DelayId::new("nothing")).await, OperatorCancel::Unknown);
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn a_drain_that_sends_keeps_the_order_and_leaves_what_is_refused() {
    let lab = Lab::with(Options { enforce: false, ..Options::default() }).await;
    for n in 0..50 {
        lab.schedule(Lab::event(n), u64::try_from(100 - n).expect("positive") * 1_000).await;
    }
    group(&lab, 100, 1_000).await;
    let mut of_bob = lab.request(Lab::event(200), 1_000);
    of_bob.user_id = lab.bob.clone();
    lab.try_schedule(of_bob).await.expect("scheduled");
    lab.world.refuse(&lab.bob, Some(FailureKind::Forbidden));
    let mut told = Vec::new();
    let drained = lab.engine.drain(Drain::Send, |drained| told.push(drained.done())).await.expect("the store works");
    let expected = Drained { total: 53, sent: 51, cancelled: 1, refused: 1, last_refusal: Some("no".to_owned()) };
    assert_eq!(drained, expected);
    assert!(told.is_sorted() && told.last() == Some(&53), "{told:?}");
    assert_eq!(lab.world.numbers(), [vec![100], (0..50).rev().collect()].concat());
    assert_eq!(lab.engine.pending(), 1);
    lab.world.refuse(&lab.bob, None);
    assert_eq!(lab.engine.drain(Drain::Send, |_| ()).await.expect("the store works").sent, 1);
    assert_eq!(lab.engine.drain(Drain::Send, |_| ()).await.expect("the store works"), Drained::default());
}

#[tokio::test]
async fn a_drain_waits_for_rates_and_goes_on() {
    let lab = Lab::new().await;
    lab.schedule(Lab::event(1), 60_000).await;
    lab.world.hold(&lab.alice, Duration::from_secs(3));
    let drain = lab.engine.drain(Drain::Send, |_| ());
    let release = async {
        lab.settle().await;
        lab.world.refuse(&lab.alice, None);
        lab.pass(2_999).await;
        assert!(lab.world.taken().is_empty());
        lab.pass(1).await;
    };
    let (drained, ()) = tokio::join!(drain, release);
    assert_eq!(drained.expect("the store works").sent, 1);
}

#[tokio::test]
async fn a_drain_that_cancels_takes_everything() {
    let lab = Lab::with(Options { enforce: false, ..Options::default() }).await;
    for n in 0..300 {
        lab.schedule(Lab::event(n), 1_000).await;
    }
    group(&lab, 1_000, 1_000).await;
    let drained = lab.engine.drain(Drain::Cancel, |_| ()).await.expect("the store works");
    assert_eq!(drained, Drained { total: 302, cancelled: 302, ..Drained::default() });
    assert_eq!(lab.engine.pending(), 0);
    lab.pass(2_000).await;
    assert!(lab.world.taken().is_empty());
}

#[tokio::test]
async fn a_superseded_event_can_not_be_restarted_and_gives_its_place_up() {
    let options = Options { newer_state: NewerState::Cancels, max_scheduled_per_user: 2, ..Options::default() };
    let lab = Lab::with(options).await;
    let (first, second) =
        (lab.schedule(Lab::state("a", 1), 10_000).await, lab.schedule(Lab::state("b", 2), 10_000).await);
    let third = async || lab.try_schedule(lab.request(Lab::event(3), 10_000)).await;
    assert!(matches!(third().await, Err(ScheduleError::TooMany { limit: 2, .. })));
    lab.world.set_state(&lab.bob, &lab.room, "org.example.call", "a").await;
    assert!(matches!(lab.act(&first, TimerAction::Restart).await, Err(ActError::Conflict(State::Cancelled))));
    assert_eq!(lab.engine.pending(), 1);
    lab.world.set_state(&lab.bob, &lab.room, "org.example.call", "b").await;
    third().await.expect("there is a place");
    third().await.expect("what is superseded needs none");
    assert!(matches!(third().await, Err(ScheduleError::TooMany { .. })));
    assert_eq!((lab.engine.pending(), lab.list(Status::Cancelled).await.len()), (2, 2));
    lab.act(&second, TimerAction::Cancel).await.expect("it will not be sent");
}

/// The middle of many measurements, in nanoseconds.
fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn the_time_of_an_answer_does_not_tell_another_users_event_from_none() {
    let lab = Lab::new().await;
    let hers = lab.schedule(Lab::event(1), 60_000).await;
    let ended = lab.schedule(Lab::event(2), 60_000).await;
    lab.act(&ended, TimerAction::Cancel).await.expect("cancelled");
    let none = crate::DelayId::new("a-delay-id-that-was-never-given-o");
    let clock = primitives::SystemClock::new();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    // Taken in turns, so that whatever else the machine does is shared.
    for _ in 0..2_000 {
        for (id, times) in [&none, &hers, &ended].into_iter().zip(&mut times) {
            let start = primitives::Clock::monotonic(&clock);
            assert!(matches!(lab.engine.act(Some(&lab.bob), id, TimerAction::Restart).await, Err(ActError::NotFound)));
            times.push(primitives::Clock::monotonic(&clock).saturating_sub(start).as_nanos());
        }
    }
    let [none, hers, ended] = times.map(median);
    for other in [hers, ended] {
        assert!(other < none * 3 / 2 && none < other * 3 / 2, "{none} ns for none, {other} ns for another user's");
    }
}
