use std::time::Duration;

use futures_util::future::join_all;
use storage::schema::delayed::{CancelReason, FailureKind, Outcome, TimerAction};

use super::support::Lab;
use crate::{ActError, DelayId, Options, Rate, Status, life::State};

use TimerAction::{Cancel, Restart, Send};

#[tokio::test]
async fn case_12_restart_vs_fire_the_restart_wins_if_it_is_written_first() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 100).await;
    lab.world.close_gate();
    lab.pass(101).await;
    assert_eq!(lab.world.attempts(), 1);
    lab.act(&id, Restart).await.expect("still scheduled");
    lab.world.open_gate();
    lab.settle().await;
    assert!(lab.world.taken().is_empty());
    lab.pass(100).await;
    assert!(lab.world.taken().is_empty());
    lab.pass(1).await;
    assert_eq!(lab.world.numbers(), [1]);
    assert!(matches!(lab.act(&id, Restart).await, Err(ActError::Conflict(State::Sent))));
}

#[tokio::test]
async fn case_13_cancel_vs_fire_the_cancel_wins_if_it_is_written_first() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 100).await;
    lab.world.close_gate();
    lab.pass(101).await;
    lab.act(&id, Cancel).await.expect("still scheduled");
    lab.world.open_gate();
    lab.settle().await;
    assert!(lab.world.taken().is_empty());
    assert_eq!(lab.get(&id).await.finalised.expect("ended").1, Outcome::Cancelled(CancelReason::Action));
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn case_14_of_many_sends_at_once_one_event_comes() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    let results = join_all((0..10).map(|_| lab.act(&id, Send))).await;
    assert!(results.iter().all(Result::is_ok));
    lab.pass(2_000).await;
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn case_15_and_16_what_has_happened_already_is_no_error() {
    let lab = Lab::new().await;
    let sent = lab.schedule(Lab::event(1), 1_000).await;
    let cancelled = lab.schedule(Lab::event(2), 1_000).await;
    for _ in 0..2 {
        lab.act(&sent, Send).await.expect("sent");
        lab.act(&cancelled, Cancel).await.expect("cancelled");
    }
    let failed = lab.schedule(Lab::event(3), 10).await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    lab.pass(11).await;
    assert!(matches!(lab.get(&failed).await.finalised, Some((_, Outcome::Failed(_)))));
    lab.act(&failed, Cancel).await.expect("it will not be sent");
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn case_17_what_has_happened_already_may_rule_an_action_out() {
    let lab = Lab::new().await;
    let (sent, cancelled) = (lab.schedule(Lab::event(1), 1_000).await, lab.schedule(Lab::event(2), 1_000).await);
    lab.act(&sent, Send).await.expect("sent");
    lab.act(&cancelled, Cancel).await.expect("cancelled");
    let failed = lab.schedule(Lab::event(3), 10).await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    lab.pass(11).await;
    let table = [
        (&sent, Cancel, State::Sent),
        (&sent, Restart, State::Sent),
        (&cancelled, Send, State::Cancelled),
        (&cancelled, Restart, State::Cancelled),
        (&failed, Send, State::Failed),
        (&failed, Restart, State::Failed),
    ];
    for (id, action, state) in table {
        assert!(
            matches!(lab.act(id, action).await, Err(ActError::Conflict(found)) if found == state),
            "{action:?} after {state:?}"
        );
    }
}

#[tokio::test]
async fn case_18_a_redundant_action_disarms_no_other_timer() {
    let lab = Lab::new().await;
    let first = lab.schedule(Lab::event(1), 100).await;
    lab.act(&first, Send).await.expect("sent");
    let second = lab.schedule(Lab::event(2), 100).await;
    lab.act(&first, Send).await.expect("sent already");
    assert!(lab.act(&first, Cancel).await.is_err());
    lab.pass(101).await;
    assert_eq!(lab.world.numbers(), [1, 2]);
    assert!(matches!(lab.get(&second).await.finalised, Some((_, Outcome::Sent { early: false, .. }))));
}

#[tokio::test]
async fn case_19_a_forbidden_send_is_told_so_and_the_event_stays_scheduled() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    let error = lab.act(&id, Send).await.expect_err("refused");
    assert!(matches!(error, ActError::Refused(refusal) if refusal.failure.kind == FailureKind::Forbidden));
    assert_eq!(lab.get(&id).await.finalised, None);
    lab.world.refuse(&lab.alice, None);
    lab.pass(1_001).await;
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn case_29_and_30_another_users_event_is_unknown() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    for action in [Send, Cancel, Restart] {
        assert!(matches!(lab.engine.act(Some(&lab.bob), &id, action).await, Err(ActError::NotFound)));
        let stranger = ruma::user_id!("@eve:elsewhere.org");
        assert!(matches!(lab.engine.act(Some(stranger), &id, action).await, Err(ActError::NotFound)));
    }
    assert_eq!(lab.engine.get(&lab.bob, &id).await.expect("the store works"), None);
    assert!(lab.engine.list(&lab.bob, &crate::ListQuery::default()).await.expect("the store works").events.is_empty());
    lab.act(&id, Send).await.expect("hers");
    assert!(matches!(lab.engine.act(Some(&lab.bob), &id, Send).await, Err(ActError::NotFound)));
    assert_eq!(lab.engine.get(&lab.bob, &id).await.expect("the store works"), None);
}

#[tokio::test]
async fn who_knows_the_id_may_act_without_being_known() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    lab.engine.act(None, &id, Restart).await.expect("the id is enough");
    lab.engine.act(None, &id, Send).await.expect("the id is enough");
    for unknown in ["", "abc", "../x", &"x".repeat(1 << 20)] {
        assert!(matches!(lab.engine.act(None, &DelayId::new(unknown), Send).await, Err(ActError::NotFound)));
    }
}

#[tokio::test]
async fn a_restart_begins_the_delay_anew_and_survives_a_restart_of_the_server() {
    let mut lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    for _ in 0..5 {
        lab.pass(900).await;
        lab.act(&id, Restart).await.expect("scheduled");
    }
    assert_eq!(lab.get(&id).await.running_since, lab.clock_now());
    lab.restart().await;
    lab.pass(1_000).await;
    assert!(lab.world.taken().is_empty());
    lab.pass(1).await;
    assert_eq!(lab.world.numbers(), [1]);
}

#[tokio::test]
async fn restarts_at_once_all_succeed() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 1_000).await;
    let results = join_all((0..20).map(|_| lab.act(&id, Restart))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test]
async fn restarts_have_a_rate_for_each_event_and_for_each_user() {
    let options = Options {
        restarts_per_event: Rate { per_second: 1.0, burst: 2 },
        restarts_per_user: Rate { per_second: 1.0, burst: 5 },
        ..Options::default()
    };
    let lab = Lab::with(options).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(lab.schedule(Lab::event(n), 60_000).await);
    }
    let mut allowed = Vec::new();
    for id in &ids {
        let mut count = 0;
        while lab.act(id, Restart).await.is_ok() {
            count += 1;
        }
        allowed.push(count);
    }
    assert_eq!(allowed, [2, 2, 1, 0]);
    let error = lab.act(&ids[0], Restart).await;
    assert!(matches!(error, Err(ActError::TooFast { retry_after }) if retry_after == Duration::from_secs(1)));
    lab.act(&ids[0], Cancel).await.expect("only restarts are held to the rate");
    lab.pass(1_000).await;
    lab.act(&ids[3], Restart).await.expect("allowed again");
}

#[tokio::test]
async fn case_37_a_deactivated_users_events_are_cancelled_even_if_nobody_says_so() {
    let lab = Lab::new().await;
    let (one, two) = (lab.schedule(Lab::event(1), 100).await, lab.schedule(Lab::event(2), 100).await);
    lab.world.deactivate(&lab.alice);
    assert!(matches!(lab.engine.act(None, &two, Send).await, Err(ActError::Conflict(State::Cancelled))));
    lab.pass(101).await;
    assert!(lab.world.taken().is_empty());
    assert_eq!(lab.get(&one).await.finalised.expect("ended").1, Outcome::Cancelled(CancelReason::Account));
}

#[tokio::test]
async fn all_of_a_users_events_can_be_cancelled_and_nobody_elses() {
    let lab = Lab::new().await;
    for n in 0..5 {
        lab.schedule(Lab::event(n), 1_000).await;
    }
    let mut of_bob = lab.request(Lab::event(9), 1_000);
    of_bob.user_id = lab.bob.clone();
    lab.try_schedule(of_bob).await.expect("scheduled");
    assert_eq!(lab.engine.cancel_all(&lab.alice, CancelReason::Account).await.expect("the store works"), 5);
    assert_eq!(lab.engine.cancel_all(&lab.alice, CancelReason::Account).await.expect("the store works"), 0);
    assert_eq!((lab.engine.pending(), lab.list(Status::Cancelled).await.len()), (1, 5));
    lab.pass(1_001).await;
    assert_eq!(lab.world.numbers(), [9]);
}
