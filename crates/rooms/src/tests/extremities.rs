//! Forward extremities: how many a room has, who merges them, and what is one across gaps and events that are not accepted.

use primitives::NodeId;
use ruma::OwnedEventId;
use serde_json::json;
use storage::schema::rooms::{RoomHeads, Verdict};

use super::{
    ALICE, BOB, Server, current,
    forks::{Author, Draft, Look, joined, keys, member, message, state},
    marker, say, set, user,
};
use crate::{
    Incoming, Outgoing, Pdu, Reader, Received, Room,
    filter::Filter,
    merge::{DUMMY_EVENT, MAX_EXTREMITIES},
    persist::MAX_WAITING,
    sync::SyncRequest,
};

/// A room of version 11 in which `@r0:y` has all the power, and local users may speak but not merge; or not speak either.
async fn governed_from_afar(server: &Server, events_default: i64) -> (Room, Author) {
    let (room, far) = joined(server, "11").await;
    let levels = json!({
        "users": { "@r0:y": 100 }, "state_default": 50, "events_default": events_default, "events": { DUMMY_EVENT: 50 },
    });
    set(&room, ALICE, "m.room.power_levels", "", levels).await.expect("sends");
    (room, far)
}

/// Takes in many forks of one point, each with a state of its own, and answers with the verdicts.
async fn fork(look: &Look<'_>, far: &mut Author, base: &[OwnedEventId], forks: usize) -> Vec<Verdict> {
    let mut events = Vec::new();
    for n in 0..forks {
        let key = n.to_string();
        let event = look.make(far, base, state("@r0:y", "m.fork", &key, json!({ "n": n }))).await;
        events.push(Incoming::new(event.json()));
    }
    let received = look.room.receive(events, &keys()).await.expect("judged");
    let verdict = |received| match received {
        Received::Stored(_, verdict) => verdict,
        other => panic!("not stored: {other:?}"),
    };
    received.into_iter().map(verdict).collect()
}

#[tokio::test]
async fn more_than_twenty_extremities_are_joined_twenty_at_a_time() {
    let server = Server::new().await;
    let (room, mut far) = governed_from_afar(&server, 0).await;
    let look = Look { server: &server, room: &room };
    fork(&look, &mut far, &look.tips().await, 30).await;
    assert_eq!(look.tips().await.len(), 30, "who may not merge does not");
    let sent = say(&room, ALICE, "one").await.expect("sends");
    assert_eq!(look.header(&sent.event_id).await.prev.len(), 20);
    assert_eq!(look.tips().await.len(), 11);
    say(&room, ALICE, "two").await.expect("sends");
    assert_eq!(look.tips().await.len(), 1);
    super::verify::assert_whole(&server).await;
}

fn limited(limit: u64) -> Filter {
    Filter::parse(&json!({ "room": { "timeline": { "limit": limit } } }).to_string()).expect("a filter")
}

#[tokio::test]
async fn nodes_made_for_a_refused_event_are_in_no_cache() {
    let server = Server::new().await;
    let (room, mut far) = governed_from_afar(&server, 0).await;
    let look = Look { server: &server, room: &room };
    fork(&look, &mut far, &look.tips().await, 30).await;
    // In one group: one that is refused after the state before it was worked out, and one that only writes what rides along.
    let member = current(&room, "m.room.member", ALICE).await.expect("there").content_as().expect("an object");
    let again = Outgoing::state(user(ALICE), "m.room.member", ALICE, member);
    let (refused, same) =
        tokio::join!(say(&room, BOB, "hi"), room.send(Outgoing { riders: vec![marker("test")], ..again }));
    assert!(refused.is_err());
    same.expect("is there already");
    let head = server.storage.view().get::<RoomHeads>(&(room.nid(),)).await.expect("readable").expect("there");
    assert!(server.rooms.nodes().get(&(room.nid(), NodeId(head.next_node))).is_none());
}

#[tokio::test]
async fn i12_a_local_user_merges_extremities_and_no_client_is_shown_it() {
    let server = Server::new().await;
    let (room, mut far) = joined(&server, "12").await;
    let look = Look { server: &server, room: &room };
    let levels = json!({ "users": { "@r0:y": 50 }, "state_default": 50 });
    set(&room, ALICE, "m.room.power_levels", "", levels).await.expect("sends");
    let base = look.tips().await;
    let verdicts = fork(&look, &mut far, &base, 110).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Accepted));
    assert!(look.tips().await.len() <= 10, "{}", look.tips().await.len());
    for n in 0..110 {
        assert!(current(&room, "m.fork", &n.to_string()).await.is_some(), "the state of every fork counts: {n}");
    }
    let merges = look.timeline().await.len() - 110;
    assert!(merges > 4, "the room's own events and the merges");
    let alice = Reader { user_id: user(ALICE), user_nid: server.nid(ALICE).await, device_id: None };
    let request = SyncRequest { filter: limited(1_000), ..SyncRequest::default() };
    let response = server.rooms.reads().sync(&alice, request).await.expect("a response");
    let shown = serde_json::to_string(&response).expect("JSON");
    assert!(shown.contains("m.fork") && !shown.contains(DUMMY_EVENT));
    super::verify::assert_whole(&server).await;
}

#[tokio::test]
async fn i12_a_room_whose_extremities_no_local_user_may_merge_takes_so_many_and_goes_on() {
    let server = Server::new().await;
    let (room, mut far) = governed_from_afar(&server, 50).await;
    let look = Look { server: &server, room: &room };
    let base = look.tips().await;
    let verdicts = fork(&look, &mut far, &base, 80).await;
    let (taken, left) = verdicts.split_at(MAX_EXTREMITIES);
    assert!(taken.iter().all(|verdict| *verdict == Verdict::Accepted));
    assert!(left.iter().all(|verdict| matches!(verdict, Verdict::SoftFailed(_))));
    assert_eq!(look.tips().await.len(), MAX_EXTREMITIES);
    assert!(say(&room, ALICE, "no").await.is_err());
    // What follows an extremity takes its place.
    let tips: Vec<_> = look.tips().await.into_iter().take(20).collect();
    let levels = json!({ "users": { "@r0:y": 100, ALICE: 60 }, "events_default": 50 });
    let levels = look.make(&mut far, &tips, state("@r0:y", "m.room.power_levels", "", levels)).await;
    look.accept(&levels).await;
    assert!(look.tips().await.len() <= 10, "now she may");
    say(&room, ALICE, "yes").await.expect("sends");
    super::verify::assert_whole(&server).await;
}

/// Two servers with one room; the second has missed events.
struct Twins {
    server: Server,
    room: Room,
    other: Server,
    twin: Room,
    far: Author,
}

impl Twins {
    async fn new() -> Self {
        let (server, other) = (Server::new().await, Server::new().await);
        let (room, far) = joined(&server, "12").await;
        let (twin, _) = joined(&other, "12").await;
        Self { server, room, other, twin, far }
    }

    fn here(&self) -> Look<'_> {
        Look { server: &self.server, room: &self.room }
    }

    fn there(&self) -> Look<'_> {
        Look { server: &self.other, room: &self.twin }
    }

    /// Makes an event that the first server knows.
    async fn make(&mut self, prev: &[OwnedEventId], draft: Draft) -> Pdu {
        let look = Look { server: &self.server, room: &self.room };
        let event = look.make(&mut self.far, prev, draft).await;
        look.verdict(&event).await;
        event
    }

    /// Gives an event to the second server, with the state before it.
    async fn deliver(&self, pdu: &Pdu) -> Verdict {
        let state = self.here().state_after(pdu.prev_events()).await;
        let state = state.into_values().map(|id| id.try_into().expect("an id")).collect();
        let event = Incoming { state_before: Some(state), ..Incoming::new(pdu.json()) };
        match self.twin.receive(vec![event], &keys()).await.expect("judged").remove(0) {
            Received::Stored(_, verdict) => verdict,
            other => panic!("not stored: {other:?}"),
        }
    }
}

fn ids(events: &[&Pdu]) -> Vec<OwnedEventId> {
    events.iter().map(|event| event.event_id().clone()).collect()
}

#[tokio::test]
async fn what_fills_a_gap_is_followed_by_what_came_before_it() {
    let mut twins = Twins::new().await;
    let base = twins.here().tips().await;
    let first = twins.make(&base, message("@r0:y")).await;
    let second = twins.make(&base, message("@r0:y")).await;
    let child = twins.make(&ids(&[&first, &second]), message("@r0:y")).await;
    assert_eq!(twins.deliver(&child).await, Verdict::Accepted);
    assert_eq!(twins.there().header(child.event_id()).await.prev, []);
    // Both in one batch.
    let events = [&first, &second].map(|event| Incoming::new(event.json())).to_vec();
    twins.twin.receive(events, &keys()).await.expect("judged");
    let there = twins.there();
    let filled = vec![there.rix(first.event_id()).await, there.rix(second.event_id()).await];
    assert_eq!(there.header(child.event_id()).await.prev, filled);
    assert_eq!(there.tips().await, ids(&[&child]));
    super::verify::assert_whole(&twins.other).await;
}

/// ```text
/// base ◄── parent ◄── evading (soft-failed by the second server) ◄── last
/// ```
#[tokio::test]
async fn i5_what_a_soft_failed_event_follows_is_no_extremity_once_that_is_followed() {
    for parent_last in [true, false] {
        let mut twins = Twins::new().await;
        let base = twins.here().tips().await;
        let parent = twins.make(&base, message("@r0:y")).await;
        let evading = twins.make(&ids(&[&parent]), message("@r0:y")).await;
        let ban = twins.there().make(&mut Author::own(), &base, member(ALICE, "@r0:y", "ban")).await;
        twins.here().accept(&ban).await;
        let after = [ids(&[&evading]), ids(&[&ban])].concat();
        let last = twins.here().make(&mut Author::own(), &after, message(ALICE)).await;
        twins.here().accept(&last).await;
        twins.there().accept(&ban).await;
        let order = if parent_last { [&evading, &last, &parent] } else { [&last, &evading, &parent] };
        for event in order {
            twins.deliver(event).await;
        }
        let there = twins.there();
        assert!(matches!(there.header(evading.event_id()).await.verdict, Verdict::SoftFailed(_)));
        assert_eq!(there.tips().await, ids(&[&last]));
        super::verify::assert_whole(&twins.other).await;
    }
}

/// ```text
/// known ◄── evading (comes last, soft-failed) ◄── last
/// ```
#[tokio::test]
async fn i5_an_extremity_is_followed_across_a_soft_failed_event_that_comes_late() {
    let mut twins = Twins::new().await;
    let base = twins.here().tips().await;
    let known = twins.make(&base, message("@r0:y")).await;
    let evading = twins
        .make(
            &ids(&[&known]),
            state("@r0:y", "m.room.member", "@r0:y", json!({ "membership": "join", "displayname": "r" })),
        )
        .await;
    let ban = twins.there().make(&mut Author::own(), &base, member(ALICE, "@r0:y", "ban")).await;
    twins.here().accept(&ban).await;
    let after = [ids(&[&evading]), ids(&[&ban])].concat();
    let last = twins.here().make(&mut Author::own(), &after, message(ALICE)).await;
    twins.here().accept(&last).await;
    twins.there().accept(&known).await;
    twins.there().accept(&ban).await;
    assert_eq!(twins.deliver(&last).await, Verdict::Accepted);
    assert!(twins.there().tips().await.contains(known.event_id()));
    assert!(matches!(twins.deliver(&evading).await, Verdict::SoftFailed(_)));
    assert_eq!(twins.there().tips().await, ids(&[&last]));
    super::verify::assert_whole(&twins.other).await;
}

#[tokio::test]
async fn i12_only_so_many_events_wait_for_one_that_is_missing() {
    let mut twins = Twins::new().await;
    let base = twins.here().tips().await;
    let missing = twins.make(&base, message("@r0:y")).await;
    let state = twins.here().state_after(&ids(&[&missing])).await;
    let state: Vec<OwnedEventId> = state.into_values().map(|id| id.try_into().expect("an id")).collect();
    let mut children = Vec::new();
    for _ in 0..=MAX_WAITING {
        let child = Look { server: &twins.server, room: &twins.room };
        let child = child.make(&mut twins.far, &ids(&[&missing]), message("@r0:y")).await;
        children.push(Incoming { state_before: Some(state.clone()), ..Incoming::new(child.json()) });
    }
    let received = twins.twin.receive(children, &keys()).await.expect("judged");
    let (last, waiting) = received.split_last().expect("some");
    assert!(waiting.iter().all(|one| matches!(one, Received::Stored(..))));
    assert!(matches!(last, Received::Missing(_, which) if *which == ids(&[&missing])), "{last:?}");
    twins.there().accept(&missing).await;
    super::verify::assert_whole(&twins.other).await;
}

#[tokio::test]
async fn slots_given_out_for_an_event_that_is_not_stored_stay_given_out() {
    let mut twins = Twins::new().await;
    set(&twins.room, ALICE, "m.room.power_levels", "", json!({ "state_default": 0 })).await.expect("sends");
    set(&twins.twin, ALICE, "m.room.power_levels", "", json!({ "state_default": 0 })).await.expect("sends");
    let base = twins.here().tips().await;
    let first = twins.make(&base, state("@r0:y", "m.first", "", json!({}))).await;
    let unknown = twins.make(&ids(&[&first]), state("@r0:y", "m.unknown", "", json!({}))).await;
    let child = twins.make(&ids(&[&unknown]), message("@r0:y")).await;
    let outlier = Incoming { outlier: true, ..Incoming::new(first.json()) };
    let partly = Incoming { state_before: Some(ids(&[&first, &unknown])), ..Incoming::new(child.json()) };
    let received = twins.twin.receive(vec![outlier], &keys()).await.expect("judged");
    assert!(matches!(received[..], [Received::Stored(..)]), "{received:?}");
    let received = twins.twin.receive(vec![partly], &keys()).await.expect("judged");
    assert!(matches!(received[..], [Received::Missing(..)]), "{received:?}");
    // Another process on the same store.
    let again = Server::on(twins.other.storage.clone(), std::sync::Arc::clone(&twins.other.clock)).await;
    let room = again.rooms.room(twins.twin.id()).await.expect("known");
    set(&room, ALICE, "m.second", "", json!({})).await.expect("sends");
    super::verify::assert_whole(&again).await;
}
