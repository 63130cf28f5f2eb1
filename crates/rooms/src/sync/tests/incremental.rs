use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    read::{MessagesRequest, PageDirection},
    testing::stored::{Draft, ROOM, member, message, state_event},
};

#[tokio::test]
async fn an_initial_sync_has_the_state_at_the_start_of_its_timeline() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "old" }))).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "new" }))).await;
    let (_, response) = synced(&world, "@a:x", filtered(r#"{"room":{"timeline":{"limit":1}}}"#)).await;
    assert_eq!(part(joined(&response)), (vec![7], vec![1, 2, 3, 4, 5, 6], true));
    let (_, response) = synced(&world, "@a:x", SyncRequest::default()).await;
    assert_eq!(part(joined(&response)), ((1..=7).collect(), vec![], false));
    let (_, response) = synced(&world, "@a:x", filtered(r#"{"room":{"timeline":{"limit":0}}}"#)).await;
    assert_eq!(part(joined(&response)), (vec![], vec![1, 2, 3, 4, 5, 7], true));
    assert_eq!(response["account_data"]["events"][0]["type"], "m.push_rules");
    assert_eq!(response["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert_eq!(joined(&response)["timeline"]["events"], json!([]));
    let state_event = &joined(&response)["state"]["events"][0];
    assert_eq!((state_event.get("room_id"), &state_event["type"]), (None, &json!("m.room.create")));
}

#[tokio::test]
async fn an_incremental_sync_has_what_arrived_and_nothing_twice() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    let (quiet, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(response.get("rooms"), None);
    assert_eq!(quiet.position, token.position);
    world.send(message("@a:x", "x")).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "t" }))).await;
    let (next, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(part(joined(&response)), (vec![6, 7], vec![], false));
    assert_eq!(joined(&response).get("summary"), None);
    assert_eq!(synced(&world, "@a:x", since(next)).await.1.get("rooms"), None);
    let (_, again) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(part(joined(&again)), (vec![6, 7], vec![], false));
}

#[tokio::test]
async fn what_the_timeline_leaves_out_comes_as_state_and_pages_on_without_hole() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "one" }))).await;
    world.send(state_event("@a:x", "m.room.name", json!({ "name": "one" }))).await;
    world.send(message("@a:x", "x")).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "two" }))).await;
    let asked = SyncRequest { since: Some(token), ..filtered(r#"{"room":{"timeline":{"limit":2}}}"#) };
    let (_, response) = synced(&world, "@a:x", asked.clone()).await;
    assert_eq!(part(joined(&response)), (vec![8, 9], vec![6, 7], true));
    let prev_batch = joined(&response)["timeline"]["prev_batch"].as_str().expect("a token");
    let request = MessagesRequest {
        direction: PageDirection::Backward,
        from: Some(prev_batch.parse().expect("a token")),
        to: None,
        limit: Some(3),
        filter: crate::filter::RoomEventFilter::default(),
    };
    let page = world.reads.messages(&reader("@a:x"), world.id(), request).await.expect("a page");
    assert_eq!(rixes(&serde_json::to_value(page.chunk).expect("JSON")), [7, 6, 5]);

    let after = SyncRequest { state_after: StateAfter::Unstable, ..asked };
    let (_, response) = synced(&world, "@a:x", after).await;
    assert_eq!(rixes(&joined(&response)["org.matrix.msc4222.state_after"]["events"]), [7, 9]);
    assert_eq!((joined(&response).get("state"), joined(&response).get("state_after")), (None, None));
}

#[tokio::test]
async fn the_stable_name_of_the_state_at_the_end_is_there_even_if_empty() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    world.send(message("@a:x", "x")).await;
    let (_, response) = synced(&world, "@a:x", SyncRequest { state_after: StateAfter::Stable, ..since(token) }).await;
    assert_eq!(joined(&response)["state_after"], json!({ "events": [] }));
}

#[tokio::test]
async fn a_filter_hides_from_the_timeline_but_not_from_the_state() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    world.send(message("@a:x", "x")).await;
    world.send(state_event("@a:x", "m.room.topic", json!({ "topic": "t" }))).await;
    let asked = SyncRequest {
        since: Some(token),
        ..filtered(r#"{"room":{"timeline":{"limit":1,"types":["m.room.message"]}}}"#)
    };
    let (_, response) = synced(&world, "@a:x", asked).await;
    assert_eq!(part(joined(&response)), (vec![6], vec![7], false));
    let elsewhere = SyncRequest { since: Some(token), ..filtered(r#"{"room":{"not_rooms":["!r1:x"]}}"#) };
    assert_eq!(synced(&world, "@a:x", elsewhere).await.1.get("rooms"), None);
}

#[tokio::test]
async fn a_gap_cuts_the_timeline() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    world.send(message("@a:x", "before the gap")).await;
    let after = world.send(Draft { gap: true, ..message("@a:x", "after the gap") }).await;
    let last = world.send(message("@a:x", "last")).await;
    let (_, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(part(joined(&response)), (vec![after.0, last.0], vec![], true));
    let (_, response) = synced(&world, "@a:x", SyncRequest::default()).await;
    assert_eq!(part(joined(&response)).0, [after.0, last.0]);
    // Filled since: what filled it never came through sync.
    let rank = primitives::Rank(primitives::Rank::FIRST.0 + 5 + primitives::Rank::GAP);
    world
        .write(|batch| {
            batch.delete::<storage::schema::rooms::Gaps>(&(ROOM, rank));
        })
        .await;
    let (_, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(part(joined(&response)), (vec![after.0, last.0], vec![], true));
}

#[tokio::test]
async fn full_state_is_all_of_it_and_the_timeline_still_what_is_new() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    let full = SyncRequest { full_state: true, ..since(token) };
    let (_, response) = synced(&world, "@a:x", full.clone()).await;
    assert_eq!(part(joined(&response)), (vec![], vec![1, 2, 3, 4, 5], false));
    world.send(message("@a:x", "x")).await;
    let (_, response) = synced(&world, "@a:x", full).await;
    assert_eq!(part(joined(&response)), (vec![6], vec![1, 2, 3, 4, 5], false));
}

#[tokio::test]
async fn a_token_of_another_database_starts_over_and_one_of_this_survives_a_restart() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    world.send(message("@a:x", "x")).await;
    world.restart();
    let (_, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(part(joined(&response)), (vec![6], vec![], false));
    let restored = SyncToken { epoch: token.epoch.wrapping_add(1), ..token };
    let (_, response) = synced(&world, "@a:x", since(restored)).await;
    assert_eq!(part(joined(&response)).0, [1, 2, 3, 4, 5, 6]);
    assert!(response["device_lists"]["changed"].is_array(), "everybody's devices may be others: {response}");
    let (_, response) = synced(&world, "@a:x", SyncRequest::default()).await;
    assert!(response["device_lists"]["changed"].is_null(), "who knows nothing has nothing to look at anew: {response}");
}

#[tokio::test]
async fn a_waiting_sync_answers_when_something_happens_or_the_time_is_over() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let (token, _) = synced(&world, "@a:x", SyncRequest::default()).await;
    let waiting = SyncRequest { timeout: Duration::from_secs(30), ..since(token) };
    let tracker = tokio_util::task::TaskTracker::new();
    let ask = |request: SyncRequest| {
        let reads = world.reads.clone();
        tracker.spawn(async move { reads.sync(&reader("@a:x"), request).await.expect("a response") })
    };
    let woken = ask(waiting.clone());
    tokio::task::yield_now().await;
    assert!(!woken.is_finished());
    world.send(message("@a:x", "x")).await;
    let response = woken.await.expect("it ends");
    assert_eq!(part(joined(&serde_json::to_value(&response).expect("JSON"))), (vec![6], vec![], false));

    let over = {
        let reads = world.reads.clone();
        let request = SyncRequest { since: Some(response.next_batch), ..waiting };
        tracker.spawn(async move { reads.sync(&reader("@a:x"), request).await.expect("a response") })
    };
    tokio::task::yield_now().await;
    assert!(!over.is_finished());
    world.clock.advance(Duration::from_secs(31));
    assert!(over.await.expect("it ends").is_empty());
}

/// SECURITY 31: one room's error never fails a sync.
#[tokio::test]
async fn a_room_that_cannot_be_read_is_left_out() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    let other = primitives::RoomNid(2);
    world.room(other, "shared").await;
    world
        .write(|batch| {
            batch.put::<storage::schema::rooms::EventJson>(&(ROOM, primitives::Rix(3)), &storage::Raw(b"{".to_vec()));
        })
        .await;
    let (_, response) = synced(&world, "@a:x", SyncRequest::default()).await;
    let rooms = response["rooms"]["join"].as_object().expect("rooms");
    assert_eq!(rooms.keys().collect::<Vec<_>>(), ["!r2:x"]);
}

#[tokio::test]
async fn the_summary_names_heroes_and_counts_when_members_change() {
    let mut world = World::new().await;
    world.room(ROOM, "shared").await;
    world.send(member("@a:x", "@b:x", "invite")).await;
    let (token, response) = synced(&world, "@a:x", SyncRequest::default()).await;
    let summary = |response: &Value| joined(response)["summary"].clone();
    assert_eq!(
        summary(&response),
        json!({ "m.heroes": ["@b:x"], "m.joined_member_count": 1, "m.invited_member_count": 1 })
    );
    world.send(member("@b:x", "@b:x", "join")).await;
    let (token, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(
        summary(&response),
        json!({ "m.heroes": ["@b:x"], "m.joined_member_count": 2, "m.invited_member_count": 0 })
    );
    world.send(state_event("@a:x", "m.room.name", json!({ "name": "named" }))).await;
    world.send(member("@b:x", "@b:x", "leave")).await;
    let (_, response) = synced(&world, "@a:x", since(token)).await;
    assert_eq!(summary(&response), json!({ "m.joined_member_count": 1, "m.invited_member_count": 0 }));
}
