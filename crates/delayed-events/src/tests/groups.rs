use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures_util::future::join_all;
use ruma::CanonicalJsonValue;
use storage::schema::delayed::{CancelReason, FailureKind, Outcome, TimerAction};

use super::support::Lab;
use crate::{ActError, Event, Group, NewDelayed, Receipt, Schedule, ScheduleError, Status};

use TimerAction::{Cancel, Restart, Send};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn member(event: Event, delay: Option<u64>) -> NewDelayed {
    NewDelayed { event, delay: delay.map(Duration::from_millis), name: None, tokens: true }
}

/// A request for one event of a group.
fn future(lab: &Lab, event: Event, delay: Option<u64>, group: Group) -> Schedule {
    Schedule { events: vec![member(event, delay)], group, ..lab.request(Event::default(), 1) }
}

fn token(receipt: &Receipt, action: TimerAction) -> String {
    let tokens = &receipt.events[0].tokens;
    tokens.iter().find(|(of, _)| *of == action).map(|(_, token)| token.clone()).expect("a token was made")
}

/// A timeout future and two action futures of one group.
async fn three(lab: &Lab) -> [Receipt; 3] {
    let timeout = lab.engine.schedule(future(lab, Lab::event(1), Some(1_000), Group::New)).await.expect("scheduled");
    let group = || Group::Named(timeout.group_id.clone().expect("a group was made"));
    let second = lab.engine.schedule(future(lab, Lab::event(2), None, group())).await.expect("scheduled");
    let third = lab.engine.schedule(future(lab, Lab::event(3), None, group())).await.expect("scheduled");
    [timeout, second, third]
}

#[tokio::test]
async fn of_a_group_the_timer_sends_one_and_discards_the_others() {
    let lab = Lab::new().await;
    let [timeout, second, _] = three(&lab).await;
    lab.pass(1_001).await;
    assert_eq!((lab.world.numbers(), lab.engine.pending()), (vec![1], 0));
    assert_eq!(
        lab.get(&second.events[0].delay_id).await.finalised.expect("ended").1,
        Outcome::Cancelled(CancelReason::Group)
    );
    let again = future(&lab, Lab::event(4), Some(10), Group::Named(timeout.group_id.expect("a group")));
    assert!(matches!(lab.engine.schedule(again).await, Err(ScheduleError::GroupEnded)));
}

#[tokio::test]
async fn case_48_of_two_sends_raced_one_event_comes() {
    let lab = Lab::new().await;
    let [_, second, third] = three(&lab).await;
    let (a, b) = (token(&second, Send), token(&third, Send));
    let results = join_all([lab.engine.act_by_token(CLIENT, &a), lab.engine.act_by_token(CLIENT, &b)]).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    lab.pass(2_000).await;
    assert_eq!(lab.world.taken().len(), 1);
    assert_eq!((lab.list(Status::Sent).await.len(), lab.list(Status::Cancelled).await.len()), (1, 2));
}

#[tokio::test]
async fn when_the_last_timer_of_a_group_is_cancelled_the_group_is_gone() {
    let lab = Lab::new().await;
    let [timeout, ..] = three(&lab).await;
    let group = Group::Named(timeout.group_id.clone().expect("a group"));
    let other = lab.engine.schedule(future(&lab, Lab::event(4), Some(2_000), group)).await.expect("scheduled");
    lab.engine.act_by_token(CLIENT, &token(&timeout, Cancel)).await.expect("cancelled");
    assert_eq!(lab.engine.pending(), 3);
    lab.engine.act_by_token(CLIENT, &token(&other, Restart)).await.expect("restarted");
    lab.engine.act_by_token(CLIENT, &token(&other, Cancel)).await.expect("cancelled");
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn two_last_timers_cancelled_at_once_take_the_group_along() {
    let lab = Lab::new().await;
    let [timeout, ..] = three(&lab).await;
    let group = Group::Named(timeout.group_id.clone().expect("a group"));
    let other = lab.engine.schedule(future(&lab, Lab::event(4), Some(2_000), group)).await.expect("scheduled");
    let (a, b) = (token(&timeout, Cancel), token(&other, Cancel));
    let results = join_all([lab.engine.act_by_token(CLIENT, &a), lab.engine.act_by_token(CLIENT, &b)]).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(lab.engine.pending(), 0);
}

#[tokio::test]
async fn a_refused_timer_that_was_the_last_takes_the_group_along() {
    let lab = Lab::new().await;
    three(&lab).await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    lab.pass(1_001).await;
    assert_eq!((lab.world.taken().len(), lab.engine.pending()), (0, 0));
    assert_eq!((lab.list(Status::Failed).await.len(), lab.list(Status::Cancelled).await.len()), (1, 2));
}

#[tokio::test]
async fn case_49_an_action_needs_a_timer_in_its_group_and_the_group_an_owner() {
    let lab = Lab::new().await;
    for group in [Group::New, Group::Named("new".to_owned())] {
        let result = lab.engine.schedule(future(&lab, Lab::event(1), None, group)).await;
        assert!(matches!(result, Err(ScheduleError::GroupWithoutTimer)));
    }
    let [timeout, ..] = three(&lab).await;
    let mut of_bob = future(&lab, Lab::event(1), Some(10), Group::Named(timeout.group_id.clone().expect("a group")));
    of_bob.user_id = lab.bob.clone();
    assert!(matches!(lab.engine.schedule(of_bob).await, Err(ScheduleError::GroupOfOther)));
    let alone = lab.request(Lab::event(1), 1);
    let alone = Schedule { events: vec![member(Lab::event(1), None)], ..alone };
    assert!(matches!(lab.engine.schedule(alone).await, Err(ScheduleError::GroupWithoutTimer)));
    assert_eq!(lab.engine.pending(), 3);
}

#[tokio::test]
async fn an_event_without_a_timer_has_no_token_to_restart_it() {
    let lab = Lab::new().await;
    let [timeout, second, _] = three(&lab).await;
    let actions = |receipt: &Receipt| receipt.events[0].tokens.iter().map(|(action, _)| *action).collect::<Vec<_>>();
    assert_eq!((actions(&timeout), actions(&second)), (vec![Send, Cancel, Restart], vec![Send, Cancel]));
    assert!(matches!(lab.act(&second.events[0].delay_id, Restart).await, Err(ActError::Conflict(_))));
    let lengths: std::collections::HashSet<_> = timeout.events[0].tokens.iter().map(|(_, token)| token.len()).collect();
    assert_eq!(lengths.len(), 1);
}

#[tokio::test]
async fn five_unknown_tokens_in_a_row_make_a_client_wait() {
    let lab = Lab::new().await;
    let [timeout, ..] = three(&lab).await;
    for _ in 0..4 {
        assert!(matches!(lab.engine.act_by_token(CLIENT, "wrong").await, Err(ActError::NotFound)));
    }
    lab.engine.act_by_token(CLIENT, &token(&timeout, Restart)).await.expect("right");
    for _ in 0..5 {
        assert!(matches!(lab.engine.act_by_token(CLIENT, "wrong").await, Err(ActError::NotFound)));
    }
    let restart = token(&timeout, Restart);
    let error = lab.engine.act_by_token(CLIENT, &restart).await;
    assert!(matches!(error, Err(ActError::TooManyGuesses { retry_after }) if retry_after == Duration::from_secs(10)));
    let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    lab.engine.act_by_token(other, &restart).await.expect("somebody else");
    lab.pass(999).await;
    lab.engine.act_by_token(other, &restart).await.expect("restarted");
    for _ in 0..12 {
        lab.pass(900).await;
        lab.engine.act_by_token(other, &restart).await.expect("restarted");
    }
    lab.engine.act_by_token(CLIENT, &restart).await.expect("has waited");
}

#[tokio::test]
async fn a_futures_newer_state_cancels_it() {
    let lab = Lab::new().await;
    lab.engine.schedule(future(&lab, Lab::state("k", 1), Some(100), Group::New)).await.expect("scheduled");
    lab.world.set_state(&lab.alice, &lab.room, "org.example.call", "k").await;
    lab.pass(101).await;
    assert!(lab.world.numbers().is_empty());
    assert_eq!((lab.engine.pending(), lab.list(Status::Cancelled).await.len()), (0, 1));
}

fn batch(lab: &Lab) -> Schedule {
    let redaction: CanonicalJsonValue = "$m.send_now.event_id".into();
    let content = [("redacts".to_owned(), redaction), ("n".to_owned(), CanonicalJsonValue::Integer(2.into()))]
        .into_iter()
        .collect();
    let redaction = Event { event_type: "m.room.redaction".to_owned(), content, ..Event::default() };
    let mut request = future(lab, redaction, Some(1_000), Group::New);
    let mut action = member(Lab::event(3), None);
    action.name = Some("leave".to_owned());
    request.events.push(action);
    request.now = Some(Lab::event(1));
    request.txn = Some(Lab::txn("batch"));
    request
}

#[tokio::test]
async fn a_batch_sends_one_at_once_and_its_id_stands_in_the_others() {
    let lab = Lab::new().await;
    let receipt = lab.engine.schedule(batch(&lab)).await.expect("sent and scheduled");
    assert_eq!((lab.world.numbers(), lab.engine.pending()), (vec![1], 2));
    assert_eq!(lab.engine.schedule(batch(&lab)).await.expect("replayed"), receipt);
    assert_eq!((receipt.events[1].name.as_deref(), lab.engine.pending()), (Some("leave"), 2));
    lab.pass(1_001).await;
    let taken = lab.world.taken();
    assert_eq!((taken.len(), receipt.sent.as_ref()), (2, Some(&taken[0].event_id)));
    assert_eq!(taken[1].content["redacts"].as_str(), Some(taken[0].event_id.as_str()));
}

#[tokio::test]
async fn case_50_a_batch_whose_first_event_is_refused_schedules_nothing() {
    let lab = Lab::new().await;
    lab.world.refuse(&lab.alice, Some(FailureKind::Forbidden));
    assert!(matches!(lab.engine.schedule(batch(&lab)).await, Err(ScheduleError::Refused(_))));
    assert_eq!((lab.engine.pending(), lab.world.taken().len()), (0, 0));
    assert_eq!(lab.engine.answered(&Lab::txn("batch")).await.expect("the store works"), None);
    lab.world.refuse(&lab.alice, None);
    lab.engine.schedule(batch(&lab)).await.expect("the transaction is still free");
}

#[tokio::test]
async fn concurrent_batches_of_one_transaction_are_one() {
    let lab = Lab::new().await;
    let receipts = join_all((0..5).map(|_| lab.engine.schedule(batch(&lab)))).await;
    let first = receipts[0].as_ref().expect("sent and scheduled");
    assert!(receipts.iter().all(|receipt| receipt.as_ref().is_ok_and(|receipt| receipt == first)));
    assert_eq!((lab.world.taken().len(), lab.engine.pending()), (1, 2));
}
