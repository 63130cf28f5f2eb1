use std::time::Duration;

use futures_util::future::join_all;
use primitives::UserNid;
use ruma::{CanonicalJsonValue, canonical_json::CanonicalJsonObject};
use storage::schema::delayed::TimerAction;

use super::support::{Lab, START};
use crate::{Answered, Event, Options, Rate, ScheduleError, Status};

const DAY: u64 = 86_400_000;

#[tokio::test]
async fn case_1_a_delay_of_nothing_is_refused() {
    let lab = Lab::new().await;
    let error = lab.try_schedule(lab.request(Lab::event(1), 0)).await;
    assert!(matches!(error, Err(ScheduleError::NoDelay)));
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn case_3_an_empty_state_key_makes_a_state_event() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::state("", 1), 10).await;
    assert_eq!(lab.get(&id).await.state_key.as_deref(), Some(""));
    lab.pass(11).await;
    assert_eq!(lab.world.taken()[0].state_key.as_deref(), Some(""));
}

#[tokio::test]
async fn case_4_exactly_the_longest_delay_is_accepted_and_no_more() {
    let lab = Lab::new().await;
    lab.schedule(Lab::event(1), DAY).await;
    let error = lab.try_schedule(lab.request(Lab::event(2), DAY + 1)).await;
    assert!(matches!(error, Err(ScheduleError::DelayTooLarge { max }) if max == Duration::from_millis(DAY)));
}

#[tokio::test]
async fn case_5_and_6_a_transaction_answers_the_same_before_and_after_a_restart_of_the_server() {
    let mut lab = Lab::new().await;
    let mut request = lab.request(Lab::event(1), 1_000);
    request.txn = Some(Lab::txn("t"));
    let id = lab.try_schedule(request.clone()).await.expect("scheduled");
    assert_eq!(lab.try_schedule(request.clone()).await.expect("replayed"), id);
    lab.restart().await;
    let Some(Answered::Scheduled(receipt)) = lab.engine.answered(&Lab::txn("t")).await.expect("the store works") else {
        panic!("forgotten")
    };
    assert_eq!((receipt.events[0].delay_id.clone(), lab.engine.pending()), (id.clone(), 1));
    assert_eq!(lab.try_schedule(request).await.expect("replayed"), id);
    assert_eq!(lab.get(&id).await.transaction_id.as_deref(), Some("t"));
}

#[tokio::test]
async fn case_7_a_transaction_that_sent_an_event_schedules_nothing() {
    let lab = Lab::new().await;
    lab.storage.commit(lab.engine.0.outside.answer(&Lab::txn("t"), "$sent")).await.expect("the store works");
    let mut request = lab.request(Lab::event(1), 1_000);
    request.txn = Some(Lab::txn("t"));
    assert!(matches!(lab.try_schedule(request).await, Err(ScheduleError::AlreadySent(id)) if id == "$sent"));
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn case_8_identical_requests_at_once_schedule_one_event() {
    let lab = Lab::new().await;
    let mut with_txn = lab.request(Lab::event(1), 1_000);
    with_txn.txn = Some(Lab::txn("t"));
    for request in [with_txn, lab.request(Lab::state("k", 2), 1_000)] {
        let before = lab.engine.pending();
        let ids = join_all((0..20).map(|_| lab.try_schedule(request.clone()))).await;
        let first = ids[0].as_ref().expect("scheduled");
        assert!(ids.iter().all(|id| id.as_ref().is_ok_and(|id| id == first)));
        assert_eq!(lab.engine.pending(), before + 1);
    }
}

#[tokio::test]
async fn a_state_event_asked_for_again_in_the_window_is_the_same_while_it_is_scheduled() {
    let lab = Lab::new().await;
    let first = lab.schedule(Lab::state("k", 1), 10_000).await;
    lab.pass(4_999).await;
    assert_eq!(lab.schedule(Lab::state("k", 1), 10_000).await, first);
    for other in [
        lab.request(Lab::state("k", 2), 10_000),
        lab.request(Lab::state("k", 1), 9_999),
        lab.request(Lab::state("l", 1), 10_000),
    ] {
        assert_ne!(lab.try_schedule(other).await.expect("another"), first);
    }
    lab.act(&first, TimerAction::Cancel).await.expect("cancelled");
    let second = lab.schedule(Lab::state("k", 1), 10_000).await;
    assert_ne!(second, first);
    lab.pass(5_000).await;
    assert_ne!(lab.schedule(Lab::state("k", 1), 10_000).await, second);
}

#[tokio::test]
async fn case_9_the_limit_holds_under_parallel_requests() {
    let lab = Lab::with(Options { max_scheduled_per_user: 10, ..Options::default() }).await;
    let results = join_all((0..50).map(|n| lab.try_schedule(lab.request(Lab::event(n), 1_000)))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    assert!(
        results.iter().filter_map(|r| r.as_ref().err()).all(|e| matches!(e, ScheduleError::TooMany { limit: 10, .. }))
    );
    assert_eq!(lab.engine.pending(), 10);
}

#[tokio::test]
async fn case_10_under_a_lowered_limit_the_wait_covers_the_excess() {
    let mut lab = Lab::new().await;
    for n in 1..=5 {
        lab.schedule(Lab::event(n), u64::try_from(n).expect("small") * 1_000).await;
    }
    lab.options.max_scheduled_per_user = 3;
    lab.restart().await;
    let Err(ScheduleError::TooMany { limit: 3, retry_after }) = lab.try_schedule(lab.request(Lab::event(9), 1)).await
    else {
        panic!("over the limit");
    };
    // Three of the five have to go.
    assert_eq!(retry_after, Duration::from_millis(3_001));
    lab.pass(3_001).await;
    lab.schedule(Lab::event(9), 1_000).await;
}

#[tokio::test]
async fn case_11_what_is_being_sent_counts() {
    let lab = Lab::with(Options { max_scheduled_per_user: 1, ..Options::default() }).await;
    lab.schedule(Lab::event(1), 10).await;
    lab.world.close_gate();
    lab.pass(20).await;
    assert_eq!(lab.world.attempts(), 1);
    assert!(matches!(lab.try_schedule(lab.request(Lab::event(2), 10)).await, Err(ScheduleError::TooMany { .. })));
    lab.world.open_gate();
    lab.settle().await;
    lab.schedule(Lab::event(2), 10).await;
}

#[tokio::test]
async fn scheduling_has_a_rate_of_its_own_and_replays_are_free() {
    let lab = Lab::with(Options { schedules: Rate { per_second: 1.0, burst: 2 }, ..Options::default() }).await;
    let mut request = lab.request(Lab::event(1), 10_000);
    request.txn = Some(Lab::txn("t"));
    for _ in 0..5 {
        lab.try_schedule(request.clone()).await.expect("replayed");
    }
    lab.schedule(Lab::event(2), 10_000).await;
    let error = lab.try_schedule(lab.request(Lab::event(3), 10_000)).await;
    assert!(matches!(error, Err(ScheduleError::TooFast { retry_after }) if retry_after == Duration::from_secs(1)));
    lab.pass(1_000).await;
    lab.schedule(Lab::event(3), 10_000).await;
}

#[tokio::test]
async fn without_enforcement_there_are_no_rates_and_no_number_but_sizes_and_delays() {
    let rate = Rate { per_second: 0.1, burst: 1 };
    let strict = Options { schedules: rate, max_scheduled_per_user: 0, enforce: false, ..Options::default() };
    let lab = Lab::with(strict).await;
    for n in 0..10 {
        lab.schedule(Lab::event(n), 1_000).await;
    }
    assert!(lab.try_schedule(lab.request(Lab::event(1), DAY + 1)).await.is_err());
}

#[tokio::test]
async fn case_39_content_of_any_script_round_trips() {
    let lab = Lab::new().await;
    let content: CanonicalJsonObject =
        serde_json::from_str(r#"{"n":1,"body":"žluťoučký 🐎 \u0000 \" \\","ключ":[{"深":null}]}"#).expect("valid");
    let id = lab.schedule(Event { content: content.clone(), ..Lab::event(1) }, 10).await;
    assert_eq!(lab.get(&id).await.content, content);
    lab.pass(11).await;
    assert_eq!(lab.world.taken()[0].content, content);
}

#[tokio::test]
async fn case_40_an_event_that_would_be_too_large_is_refused_at_once() {
    let lab = Lab::new().await;
    let event = |length: usize| Event {
        content: [("body".to_owned(), CanonicalJsonValue::String("x".repeat(length)))].into_iter().collect(),
        ..Lab::event(1)
    };
    lab.schedule(event(64_000), 10).await;
    for bad in [event(65_536), Event { event_type: "t".repeat(256), ..Lab::event(1) }, Lab::state(&"k".repeat(256), 1)]
    {
        assert!(matches!(lab.try_schedule(lab.request(bad, 10)).await, Err(ScheduleError::TooLarge)));
    }
    // The longest that is accepted is too long by what makes it sticky.
    let (mut fits, mut over) = (64_000, 65_536);
    while over - fits > 1 {
        let middle = usize::midpoint(fits, over);
        match lab.try_schedule(lab.request(event(middle), 10)).await {
            Ok(_) => fits = middle,
            Err(_) => over = middle,
        }
    }
    let sticky = Event { sticky_duration: Some(Duration::from_mins(1)), ..event(fits) };
    assert!(matches!(lab.try_schedule(lab.request(sticky, 10)).await, Err(ScheduleError::TooLarge)));
}

#[tokio::test]
async fn case_41_an_unknown_room_is_refused() {
    let lab = Lab::new().await;
    lab.world.forget_room(&lab.room);
    assert!(matches!(lab.try_schedule(lab.request(Lab::event(1), 10)).await, Err(ScheduleError::UnknownRoom)));
}

#[tokio::test]
async fn case_43_switched_off_nothing_is_scheduled_and_what_is_scheduled_is_sent() {
    let mut lab = Lab::new().await;
    lab.schedule(Lab::event(1), 10).await;
    for off in [
        Options { enabled: false, ..lab.options.clone() },
        Options { max_scheduled_per_user: 0, ..lab.options.clone() },
    ] {
        lab.options = off;
        lab.restart().await;
        assert!(matches!(lab.try_schedule(lab.request(Lab::event(2), 10)).await, Err(ScheduleError::Disabled)));
    }
    lab.pass(11).await;
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn ids_are_long_differ_and_do_not_show_in_debug_output() {
    let lab = Lab::new().await;
    let (one, two) = (lab.schedule(Lab::event(1), 10).await, lab.schedule(Lab::event(1), 10).await);
    assert_ne!(one, two);
    assert!(
        one.as_str().len() >= 22 && one.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    );
    assert!(!format!("{one:?}").contains(one.as_str()));
    let event = lab.get(&one).await;
    assert!(!format!("{event:?}").contains(one.as_str()));
}

#[tokio::test]
async fn a_scheduled_event_says_what_was_asked_for() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_234).await;
    let event = lab.get(&id).await;
    assert_eq!((event.delay, event.running_since.0), (Some(Duration::from_millis(1_234)), START));
    assert_eq!((event.event_type.as_str(), event.finalised), ("m.room.message", None));
    assert_eq!(lab.list(Status::Scheduled).await.len(), 1);
    assert_eq!(lab.engine.pending_of(&lab.alice).await.expect("the store works"), Some(1));
    assert_eq!(lab.engine.0.timing.lock().timers.count(UserNid(1)), 1);
}
