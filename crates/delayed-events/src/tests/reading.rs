use primitives::UnixMillis;
use storage::schema::delayed::TimerAction;

use super::support::{Lab, START};
use crate::{DelayId, DelayedEvent, ListError, ListQuery, Options, Status};

fn numbers(events: &[DelayedEvent]) -> Vec<i64> {
    events.iter().filter_map(|event| event.content.get("n")?.as_integer()).map(i64::from).collect()
}

/// Reads all pages of a list.
async fn pages(lab: &Lab, query: &ListQuery) -> Vec<Vec<i64>> {
    let (mut query, mut pages) = (query.clone(), Vec::new());
    loop {
        let page = lab.engine.list(&lab.alice, &query).await.expect("the store works");
        pages.push(numbers(&page.events));
        query.from = page.next_batch;
        if query.from.is_none() {
            return pages;
        }
    }
}

async fn five_scheduled_three_ended(lab: &Lab) -> Vec<DelayId> {
    let mut ids = Vec::new();
    for (n, delay) in [(1, 500), (2, 100), (3, 300), (4, 400), (5, 200), (11, 10_000), (12, 10_000)] {
        ids.push(lab.schedule(Lab::event(n), delay * 10).await);
    }
    ids.push(lab.schedule(Lab::event(13), 10).await);
    lab.act(&ids[6], TimerAction::Cancel).await.expect("cancelled");
    lab.pass(12).await;
    lab.clock.advance(std::time::Duration::from_millis(1));
    lab.act(&ids[5], TimerAction::Send).await.expect("sent");
    ids
}

#[tokio::test]
async fn a_list_is_in_the_order_of_due_times_page_by_page_both_ways() {
    let lab = Lab::new().await;
    five_scheduled_three_ended(&lab).await;
    assert_eq!(pages(&lab, &ListQuery::default()).await, [vec![2, 5, 3, 4, 1]]);
    let two = ListQuery { limit: Some(2), ..ListQuery::default() };
    assert_eq!(pages(&lab, &two).await, [vec![2, 5], vec![3, 4], vec![1]]);
    let backwards = ListQuery { backwards: true, ..two };
    assert_eq!(pages(&lab, &backwards).await, [vec![1, 4], vec![3, 5], vec![2]]);
    let five = ListQuery { limit: Some(5), ..ListQuery::default() };
    assert_eq!(pages(&lab, &five).await.len(), 1);
}

#[tokio::test]
async fn ended_events_are_listed_by_their_ends() {
    let lab = Lab::new().await;
    five_scheduled_three_ended(&lab).await;
    let all = [Status::Sent, Status::Cancelled, Status::Failed].to_vec();
    let ended = ListQuery { status: all.clone(), limit: Some(2), ..ListQuery::default() };
    assert_eq!(pages(&lab, &ended).await, [vec![12, 13], vec![11]]);
    let backwards = ListQuery { backwards: true, ..ended };
    assert_eq!(pages(&lab, &backwards).await, [vec![11, 13], vec![12]]);
    assert_eq!(numbers(&lab.list(Status::Sent).await), [13, 11]);
    assert_eq!(numbers(&lab.list(Status::Cancelled).await), [12]);
    assert_eq!(numbers(&lab.list(Status::Failed).await), [] as [i64; 0]);
    let mixed = ListQuery { status: [all, vec![Status::Scheduled]].concat(), limit: Some(3), ..ListQuery::default() };
    assert_eq!(pages(&lab, &mixed).await, [vec![12, 13, 11], vec![2, 5, 3], vec![4, 1]]);
    let backwards = ListQuery { backwards: true, ..mixed };
    assert_eq!(pages(&lab, &backwards).await, [vec![1, 4, 3], vec![5, 2, 11], vec![13, 12]]);
}

#[tokio::test]
async fn a_list_can_be_narrowed() {
    let lab = Lab::new().await;
    let ids = five_scheduled_three_ended(&lab).await;
    let room = lab.more_rooms(1).remove(0);
    let mut elsewhere = lab.request(Lab::state("k", 21), 5_000);
    elsewhere.room_id = room.clone();
    lab.try_schedule(elsewhere).await.expect("scheduled");
    let of_room = ListQuery { room_id: Some(room), ..ListQuery::default() };
    assert_eq!(pages(&lab, &of_room).await, [vec![21]]);
    let of_type = ListQuery { event_type: Some("m.room.message".to_owned()), limit: Some(4), ..ListQuery::default() };
    assert_eq!(pages(&lab, &of_type).await, [vec![2, 5, 3, 4], vec![1]]);
    let in_time = ListQuery {
        from_ts: Some(UnixMillis(START + 2_000)),
        to_ts: Some(UnixMillis(START + 4_000)),
        ..ListQuery::default()
    };
    assert_eq!(pages(&lab, &in_time).await, [vec![5, 3, 4]]);
    let named =
        ListQuery { delay_ids: vec![ids[0].clone(), ids[6].clone(), DelayId::new("other")], ..ListQuery::default() };
    assert_eq!(pages(&lab, &named).await, [vec![1]]);
    let named = ListQuery { status: vec![Status::Cancelled], ..named };
    assert_eq!(pages(&lab, &named).await, [vec![12]]);
    let bad = ListQuery { from: Some("nonsense".to_owned()), ..ListQuery::default() };
    assert!(matches!(lab.engine.list(&lab.alice, &bad).await, Err(ListError::BadToken)));
}

#[tokio::test]
async fn a_restart_moves_an_event_in_the_list() {
    let lab = Lab::new().await;
    let first = lab.schedule(Lab::event(1), 1_000).await;
    lab.pass(500).await;
    lab.schedule(Lab::event(2), 1_000).await;
    lab.pass(100).await;
    lab.act(&first, TimerAction::Restart).await.expect("scheduled");
    assert_eq!(numbers(&lab.list(Status::Scheduled).await), [2, 1]);
}

#[tokio::test]
async fn case_46_what_has_ended_is_kept_for_its_time_and_then_unknown() {
    let lab = Lab::new().await;
    let id = lab.schedule(Lab::event(1), 10).await;
    lab.pass(11).await;
    let week = 7 * 86_400_000;
    lab.pass(week).await;
    lab.get(&id).await;
    lab.pass(1).await;
    assert_eq!(lab.engine.get(&lab.alice, &id).await.expect("the store works"), None);
    assert!(lab.list(Status::Sent).await.is_empty());
    lab.pass(60_000).await;
    assert!(matches!(lab.act(&id, TimerAction::Send).await, Err(crate::ActError::NotFound)));
    let range = storage::KeyRange::prefix(&());
    let rows =
        lab.storage.view().scan::<storage::schema::delayed::Delayed>(&range, 10, storage::Direction::Forward).await;
    assert!(rows.expect("the store works").rows.is_empty());
}

#[tokio::test]
async fn case_46_the_newest_of_a_user_are_kept() {
    let lab = Lab::with(Options { finalised_kept_per_user: 10, enforce: false, ..Options::default() }).await;
    for n in 0..300 {
        lab.schedule(Lab::event(n), 10 + u64::try_from(n).expect("positive")).await;
    }
    let kept = lab.schedule(Lab::event(1_000), 86_400_000).await;
    lab.pass(400).await;
    lab.engine.sweep().await.expect("the store works");
    assert_eq!(numbers(&lab.list(Status::Sent).await), (290..300).collect::<Vec<_>>());
    lab.engine.sweep().await.expect("the store works");
    assert_eq!(lab.list(Status::Sent).await.len(), 10);
    assert_eq!(lab.get(&kept).await.finalised, None);
}

#[tokio::test]
async fn case_46_what_ended_before_a_restart_is_swept_too() {
    let mut lab = Lab::with(Options { enforce: false, ..Options::default() }).await;
    for n in 0..20 {
        lab.schedule(Lab::event(n), 10).await;
    }
    lab.pass(11).await;
    lab.options.finalised_kept_per_user = 5;
    lab.restart().await;
    lab.engine.sweep().await.expect("the store works");
    assert_eq!(numbers(&lab.list(Status::Sent).await), (15..20).collect::<Vec<_>>());
}
