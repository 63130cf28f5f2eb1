//! The check of what is stored: what the engine leaves passes it, and what it never leaves is found.

use storage::{
    Batch,
    schema::{
        delayed::{
            Delayed, DelayedGroups, DelayedOutcomes, DelayedTimers, DelayedTokens, Finalised, Outcome, TimerAction,
            order,
        },
        rooms::{EventIds, EventLocals},
    },
};

use super::support::Lab;
use crate::{DelayId, Group, NewDelayed, timers::Key, verify::Report};

/// Events that were sent, cancelled and are scheduled, and a group of two.
struct Lived {
    lab: Lab,
    sent: Key,
    scheduled: Key,
    group: Key,
}

async fn lived() -> Lived {
    let lab = Lab::new().await;
    let sent = lab.schedule(Lab::event(1), 10).await;
    let cancelled = lab.schedule(Lab::event(2), 10).await;
    lab.act(&cancelled, TimerAction::Cancel).await.expect("scheduled");
    lab.pass(11).await;
    let scheduled = lab.schedule(Lab::state("", 3), 10_000).await;
    let mut request = lab.request(Lab::event(4), 10_000);
    request.group = Group::New;
    request.events[0].tokens = true;
    request.events.push(NewDelayed { event: Lab::event(5), delay: None, name: None, tokens: true });
    let receipt = lab.engine.schedule(request).await.expect("scheduled");
    lab.engine.act(None, &receipt.events[0].delay_id, TimerAction::Restart).await.expect("restarts");
    let key = |id: &DelayId| lab.engine.0.key_of(id.as_str());
    let group = lab.engine.0.key_of_group(&receipt.group_id.expect("a group"));
    let (sent, scheduled) = (key(&sent), key(&scheduled));
    Lived { lab, sent, scheduled, group }
}

/// What a check finds after rows were changed behind the engine's back.
async fn found(spoil: impl AsyncFnOnce(&Lived, &mut Batch)) -> Report {
    let lived = lived().await;
    let report = lived.lab.engine.verify().await.expect("readable");
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.scheduled, report.ended, report.groups), (3, 2, 1));
    let mut batch = Batch::new();
    spoil(&lived, &mut batch).await;
    lived.lab.storage.commit(batch).await.expect("commits");
    lived.lab.engine.verify().await.expect("readable")
}

#[track_caller]
fn assert_found(report: &Report, what: &str) {
    assert!(report.faults.iter().any(|fault| fault.contains(what)), "{report}");
}

#[tokio::test]
async fn an_event_is_scheduled_or_has_ended() {
    let report = found(async |lived, batch| {
        batch.delete::<DelayedTimers>(&(lived.scheduled,));
    })
    .await;
    assert_found(&report, "neither ended nor a timer");
    let report = found(async |lived, batch| {
        let timer = lived.lab.storage.view().get::<DelayedTimers>(&(lived.scheduled,)).await.expect("readable");
        batch.put::<DelayedTimers>(&(lived.sent,), &timer.expect("scheduled"));
    })
    .await;
    assert_found(&report, "has ended and has a timer");
    let report = found(async |lived, batch| {
        batch.delete::<Delayed>(&(lived.scheduled,));
    })
    .await;
    assert_found(&report, "timers: 3, where there are events for 2");
    let report = found(async |lived, batch| {
        let row = lived.lab.storage.view().get::<DelayedTimers>(&(lived.scheduled,)).await.expect("readable");
        let mut timer = row.expect("scheduled");
        timer.value.due = None;
        batch.put::<DelayedTimers>(&(lived.scheduled,), &timer);
    })
    .await;
    assert_found(&report, "its timer is another's");
}

#[tokio::test]
async fn i8_no_event_is_sent_without_its_end_nor_an_end_without_its_event() {
    let report = found(async |_, batch| {
        let id = ruma::EventId::parse("$event0").expect("an id");
        batch.delete::<EventIds>(&(rooms::event_key(&id),));
    })
    .await;
    assert_found(&report, "its event is not stored");
    let report = found(async |_, batch| {
        batch.delete::<EventLocals>(&(primitives::RoomNid(1), primitives::Rix(1)));
    })
    .await;
    assert_found(&report, "its event is another's");
    let report = found(async |lived, batch| {
        let outcome = lived.lab.storage.view().get::<DelayedOutcomes>(&(lived.sent,)).await.expect("readable");
        let mut outcome = outcome.expect("ended");
        outcome.outcome = Outcome::Cancelled(crate::CancelReason::Action);
        batch.put::<DelayedOutcomes>(&(lived.sent,), &outcome);
    })
    .await;
    assert_found(&report, "that its outcome does not name");
    let report = found(async |lived, batch| {
        let view = lived.lab.storage.view();
        let record = view.get::<Delayed>(&(lived.sent,)).await.expect("readable").expect("kept");
        let outcome = view.get::<DelayedOutcomes>(&(lived.sent,)).await.expect("readable").expect("ended");
        batch.delete::<Finalised>(&(record.value.user, outcome.at, order(record.position, record.value.place)));
    })
    .await;
    assert_found(&report, "not among its owner's");
}

#[tokio::test]
async fn groups_and_tokens_belong_to_their_events() {
    let report = found(async |lived, batch| {
        let group = lived.lab.storage.view().get::<DelayedGroups>(&(lived.group,)).await.expect("readable");
        let mut group = group.expect("there");
        group.open = false;
        batch.put::<DelayedGroups>(&(lived.group,), &group);
    })
    .await;
    assert_found(&report, "open or closed against its timers");
    let report = found(async |lived, batch| {
        let group = lived.lab.storage.view().get::<DelayedGroups>(&(lived.group,)).await.expect("readable");
        let mut group = group.expect("there");
        group.members = vec![lived.sent];
        batch.put::<DelayedGroups>(&(lived.group,), &group);
    })
    .await;
    assert_found(&report, "its group does not know it");
    assert_found(&report, "more than its one event");
    let report = found(async |lived, batch| {
        let view = lived.lab.storage.view();
        let group = view.get::<DelayedGroups>(&(lived.group,)).await.expect("readable").expect("there");
        let record = view.get::<Delayed>(&(group.members[0],)).await.expect("readable").expect("kept");
        batch.delete::<DelayedTokens>(&(lived.lab.engine.0.key_of_token(&record.value.tokens[0].1),));
    })
    .await;
    assert_found(&report, "a token of it");
    let report = found(async |_, batch| {
        let row = storage::schema::delayed::TokenRow { event: [7; 16], action: TimerAction::Send };
        batch.put::<DelayedTokens>(&([7; 16],), &row);
    })
    .await;
    assert_found(&report, "tokens: 6, where there are events for 5");
    assert!(
        report.to_string().starts_with("delayed events scheduled: 3, ended: 2, groups: 1, faults: 1\n"),
        "{report}"
    );
}
