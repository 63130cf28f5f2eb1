//! The walk: every operation is stopped at every place between two of its steps, as a crash would, and the engine started again on what
//! was written. Then each event is scheduled and in no room, or has ended, in a room exactly once if it was sent.

use std::time::Duration;

use futures_util::future::BoxFuture;
use storage::schema::delayed::{FailureKind, Outcome, TimerAction};

use super::support::Lab;
use crate::{DelayId, Group, NewDelayed, Options, Schedule, Status};

type Operation = fn(&Lab, Vec<DelayId>) -> BoxFuture<'_, ()>;

async fn lab() -> Lab {
    Lab::with(Options { enforce: false, finalised_kept: Duration::from_mins(1), ..Options::default() }).await
}

/// A group of one with a timer and one without, then a single event.
async fn prepare(lab: &Lab) -> Vec<DelayId> {
    let mut request = lab.request(Lab::event(1), 10_000);
    request.group = Group::New;
    request.events.push(NewDelayed { event: Lab::event(2), delay: None, name: None, tokens: true });
    let receipt = lab.engine.schedule(request).await.expect("scheduled");
    let single = lab.schedule(Lab::event(3), 10_000).await;
    receipt.events.into_iter().map(|event| event.delay_id).chain([single]).collect()
}

/// Stops an operation at each of its places in turn; `done` says what must be so once it was stopped nowhere.
async fn walk(operation: Operation, least: usize, done: fn(&[Outcome], &[i64])) {
    let mut stops = 0;
    loop {
        let mut lab = lab().await;
        let ids = prepare(&lab).await;
        lab.engine.0.steps.stop_after(stops);
        operation(&lab, ids.clone()).await;
        lab.settle().await;
        let stopped = lab.engine.0.steps.stopped();
        lab.restart().await;
        check(&lab, &ids).await;
        if !stopped {
            let ended =
                [lab.list(Status::Sent).await, lab.list(Status::Cancelled).await, lab.list(Status::Failed).await]
                    .concat();
            let outcomes: Vec<_> = ended.into_iter().filter_map(|event| Some(event.finalised?.1)).collect();
            done(&outcomes, &lab.world.numbers());
            break;
        }
        // What was stopped can be done after all, or is done by the timer.
        operation(&lab, ids.clone()).await;
        lab.pass(10_001).await;
        lab.pass(10_001).await;
        check(&lab, &ids).await;
        assert_eq!(lab.engine.pending(), 0);
        stops += 1;
    }
    assert!(stops >= least, "only {stops} places");
}

async fn check(lab: &Lab, ids: &[DelayId]) {
    let taken = lab.world.taken();
    let in_room =
        |id: &DelayId| taken.iter().filter(|taken| taken.local.delay_id.as_deref() == Some(id.as_str())).count();
    for id in ids {
        let Some(event) = lab.engine.get(&lab.alice, id).await.expect("the store works") else {
            assert_eq!(in_room(id), 0, "an event in a room of which nothing is kept");
            continue;
        };
        let sent = matches!(event.finalised, Some((_, Outcome::Sent { .. })));
        assert_eq!(in_room(id), usize::from(sent), "{:?}", event.finalised);
    }
    assert!(in_room(&ids[0]) + in_room(&ids[1]) <= 1, "two of one group");
    let report = lab.engine.verify().await.expect("readable");
    assert!(report.is_whole(), "{report}");
    let listed =
        [lab.list(Status::Scheduled).await, lab.list(Status::Sent).await, lab.list(Status::Cancelled).await].concat();
    assert_eq!(lab.list(Status::Scheduled).await.len(), lab.engine.pending());
    assert!(
        taken
            .iter()
            .filter_map(|t| t.local.delay_id.as_deref())
            .all(|id| listed.iter().any(|event| event.delay_id.as_str() == id))
    );
}

fn act(lab: &Lab, id: DelayId, action: TimerAction) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        // Stopped or in conflict with what was done before the stop.
        let _ = lab.act(&id, action).await;
    })
}

fn sent(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Sent { .. })).count()
}

#[tokio::test]
async fn case_23_a_crash_in_schedule() {
    let schedule: Operation = |lab, _| {
        Box::pin(async move {
            let mut request = lab.request(Lab::event(9), 5_000);
            request.txn = Some(Lab::txn("crash"));
            let _ = lab.try_schedule(request).await;
        })
    };
    walk(schedule, 2, |outcomes, numbers| assert_eq!((outcomes.len(), numbers.len()), (0, 0))).await;
}

#[tokio::test]
async fn case_23_a_crash_in_a_batch_with_an_event_sent_at_once() {
    let schedule: Operation = |lab, _| {
        Box::pin(async move {
            let request = lab.request(Lab::event(9), 5_000);
            let request =
                Schedule { group: Group::New, now: Some(Lab::event(8)), txn: Some(Lab::txn("crash")), ..request };
            let _ = lab.try_schedule(request).await;
        })
    };
    walk(schedule, 2, |_, numbers| assert_eq!(numbers, [8])).await;
}

#[tokio::test]
async fn case_23_a_crash_in_restart() {
    walk(|lab, ids| act(lab, ids[2].clone(), TimerAction::Restart), 2, |outcomes, _| assert!(outcomes.is_empty()))
        .await;
}

#[tokio::test]
async fn case_23_a_crash_in_cancel() {
    walk(
        |lab, ids| act(lab, ids[2].clone(), TimerAction::Cancel),
        2,
        |outcomes, numbers| assert_eq!((outcomes.len(), numbers.len()), (1, 0)),
    )
    .await;
}

#[tokio::test]
async fn case_23_a_crash_in_the_cancel_of_a_group() {
    walk(
        |lab, ids| act(lab, ids[0].clone(), TimerAction::Cancel),
        2,
        |outcomes, numbers| assert_eq!((outcomes.len(), numbers.len()), (2, 0)),
    )
    .await;
}

#[tokio::test]
async fn case_23_a_crash_in_send() {
    walk(
        |lab, ids| act(lab, ids[2].clone(), TimerAction::Send),
        2,
        |outcomes, numbers| assert_eq!((sent(outcomes), numbers), (1, &[3][..])),
    )
    .await;
}

#[tokio::test]
async fn case_23_a_crash_in_the_send_of_one_of_a_group() {
    walk(
        |lab, ids| act(lab, ids[1].clone(), TimerAction::Send),
        2,
        |outcomes, numbers| assert_eq!((outcomes.len(), numbers), (2, &[2][..])),
    )
    .await;
}

#[tokio::test]
async fn case_23_a_crash_in_fire() {
    let fire: Operation = |lab, _| Box::pin(lab.pass(10_001));
    walk(fire, 3, |outcomes, numbers| assert_eq!((sent(outcomes), outcomes.len(), numbers), (2, 3, &[1, 3][..]))).await;
}

#[tokio::test]
async fn case_23_a_crash_in_the_end_of_what_was_refused() {
    let fire: Operation = |lab, _| {
        lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
        Box::pin(lab.pass(10_001))
    };
    walk(fire, 4, |outcomes, numbers| assert_eq!((sent(outcomes), outcomes.len(), numbers.len()), (0, 3, 0))).await;
}

#[tokio::test]
async fn case_23_a_crash_in_sweep() {
    let sweep: Operation = |lab, ids| {
        Box::pin(async move {
            let _ = lab.act(&ids[1], TimerAction::Cancel).await;
            let _ = lab.act(&ids[2], TimerAction::Cancel).await;
            lab.pass(9_000).await;
            let _ = lab.act(&ids[0], TimerAction::Restart).await;
            lab.clock.advance(Duration::from_secs(9));
            let _ = lab.engine.sweep().await;
        })
    };
    walk(sweep, 6, |_, numbers| assert!(numbers.is_empty())).await;
}
