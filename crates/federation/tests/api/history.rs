//! Events, states and history, asked for by servers that may and by servers that may not.

use std::{collections::BTreeSet, time::Duration};

use federation_client::{
    RemoteError,
    calls::events::{MissingEvents, RawPdu},
};
use http::StatusCode;
use rooms::Outgoing;
use ruma::{OwnedEventId, ServerName, event_id, room_id, server_name};
use serde_json::{Value, json};
use testkit::world::{Server, World};

use super::far::{Far, object};

fn here() -> &'static ServerName {
    server_name!("hs.test")
}

async fn pair(world: &World) -> (Server, Server) {
    (world.server("hs.test", 1).await, world.server("b.test", 2).await)
}

fn status<T: std::fmt::Debug>(answer: Result<T, RemoteError>) -> StatusCode {
    match answer {
        Err(RemoteError::Refused { status, .. }) => status,
        other => panic!("{other:?}"),
    }
}

fn values(pdus: &[RawPdu]) -> Vec<Value> {
    pdus.iter().map(|pdu| serde_json::from_str(pdu.get()).expect("JSON")).collect()
}

fn bodies(pdus: &[RawPdu]) -> Vec<Option<String>> {
    values(pdus).iter().map(|pdu| pdu["content"]["body"].as_str().map(str::to_owned)).collect()
}

/// The ids of events, computed as their receiver does.
fn ids(far: &Far<'_>, pdus: &[RawPdu]) -> Vec<OwnedEventId> {
    let id =
        |pdu: &RawPdu| rooms::Pdu::parse(far.room.version(), pdu.get().as_bytes()).expect("a PDU").event_id().clone();
    pdus.iter().map(id).collect()
}

/// Every question about an event of a room.
async fn ask_all(asker: &Server, far: &Far<'_>, event: &OwnedEventId) -> Vec<StatusCode> {
    let (client, room) = (&asker.client, far.id());
    let one = std::slice::from_ref(event);
    vec![
        status(client.event(here(), event).await),
        status(client.state(here(), room, event).await.map(drop)),
        status(client.state_ids(here(), room, event).await),
        status(client.event_auth(here(), room, event).await),
        status(client.backfill(here(), room, one, 10).await),
    ]
}

fn missing<'a>(earliest: &'a [OwnedEventId], latest: &'a [OwnedEventId], limit: u32) -> MissingEvents<'a> {
    MissingEvents { earliest, latest, limit, min_depth: 0 }
}

#[tokio::test]
async fn a_server_in_the_room_is_given_what_it_needs_to_follow_the_dag() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    for version in ["6", "10", "11", "12"] {
        let mut far = Far::joined(&hs, &there, version, "shared").await;
        let joined = far.last.clone();
        let (one, two) = (far.say("one").await, far.say("two").await);
        let event = there.client.event(here(), &one).await.expect("an event");
        assert_eq!(
            (bodies(std::slice::from_ref(&event)), ids(&far, &[event])),
            (vec![Some("one".into())], vec![one.clone()])
        );

        let state = there.client.state(here(), far.id(), &one).await.expect("the state");
        let by_id = there.client.state_ids(here(), far.id(), &one).await.expect("the state");
        let whole: BTreeSet<_> = ids(&far, &state.pdus).into_iter().collect();
        assert_eq!(whole, by_id.pdu_ids.iter().cloned().collect(), "{version}");
        assert!(whole.contains(&joined) && !whole.contains(&one));
        let before = there.client.state_ids(here(), far.id(), &joined).await.expect("the state before");
        assert!(!before.pdu_ids.contains(&joined), "an event is not in the state before it");
        let chain: BTreeSet<_> = by_id.auth_chain_ids.iter().cloned().collect();
        assert_eq!(chain, ids(&far, &state.auth_chain).into_iter().collect());
        for pdu in state.pdus.iter().chain(&state.auth_chain) {
            let pdu = rooms::Pdu::parse(far.room.version(), pdu.get().as_bytes()).expect("a PDU");
            assert!(pdu.content_hash_matches());
            assert!(pdu.auth_events().iter().all(|auth| chain.contains(auth)), "the chain is whole");
        }

        let back = there.client.backfill(here(), far.id(), std::slice::from_ref(&two), 3).await.expect("history");
        assert_eq!(ids(&far, &back), [two.clone(), one.clone(), joined.clone()]);
        let all = there.client.backfill(here(), far.id(), std::slice::from_ref(&two), 500).await.expect("history");
        assert_eq!(values(&all).last().expect("events")["type"], "m.room.create");
        let (from, to) = ([joined.clone()], [two.clone()]);
        let between = there.client.get_missing_events(here(), far.id(), missing(&from, &to, 10)).await;
        assert_eq!(ids(&far, &between.expect("events")), [one]);
        let newest = there.client.get_missing_events(here(), far.id(), missing(&[], &to, 2)).await.expect("events");
        assert_eq!(ids(&far, &newest)[0], joined, "of too many the newest, oldest first");
        let bound = there.client.get_missing_events(here(), far.id(), missing(&[], &to, 1_000)).await.expect("events");
        assert!(bound.len() <= 20);
    }
}

#[tokio::test]
async fn an_auth_chain_is_neither_cut_nor_mixed_with_state() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    let mut far = Far::joined(&hs, &there, "11", "shared").await;
    let first = far.last.clone();
    let left = far.member("leave").await;
    let again = far.join().await;
    let rules = far.set("m.room.join_rules", "", json!({ "join_rule": "invite" })).await;
    let chain = there.client.event_auth(here(), far.id(), &rules).await.expect("a chain");
    let named = there.client.event(here(), &rules).await.expect("the event");
    let named = rooms::Pdu::parse(far.room.version(), named.get().as_bytes()).expect("a PDU");
    let as_set = |ids: Vec<OwnedEventId>| ids.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(as_set(ids(&far, &chain)), as_set(named.auth_events().to_vec()));
    let chain = as_set(ids(&far, &there.client.event_auth(here(), far.id(), &again).await.expect("a chain")));
    assert!(chain.contains(&first) && chain.contains(&left) && !chain.contains(&rules) && !chain.contains(&again));
}

/// SECURITY 19.
#[tokio::test]
async fn an_event_of_another_room_looks_like_one_that_does_not_exist() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    let mut far = Far::joined(&hs, &there, "11", "shared").await;
    let mut other = Far::joined(&hs, &there, "11", "shared").await;
    let (mine, foreign) = (far.say("mine").await, other.say("foreign").await);
    let unknown = event_id!("$unknown").to_owned();
    assert_eq!(status(there.client.event(here(), &unknown).await), StatusCode::NOT_FOUND);
    let (client, room) = (&there.client, far.id());
    for id in [&foreign, &unknown] {
        let one = std::slice::from_ref(id);
        assert_eq!(status(client.state(here(), room, id).await.map(drop)), StatusCode::NOT_FOUND);
        assert_eq!(status(client.state_ids(here(), room, id).await), StatusCode::NOT_FOUND);
        assert_eq!(status(client.event_auth(here(), room, id).await), StatusCode::NOT_FOUND);
        assert_eq!(status(client.backfill(here(), room, one, 10).await), StatusCode::NOT_FOUND);
        let none = client.get_missing_events(here(), room, missing(&[], one, 10)).await.expect("an answer");
        assert!(none.is_empty(), "{id}");
        let mixed = client.backfill(here(), room, &[mine.clone(), (*id).clone()], 1).await.expect("an answer");
        assert_eq!(ids(&far, &mixed), std::slice::from_ref(&mine));
    }
}

#[tokio::test]
async fn servers_that_are_not_in_the_room_are_told_nothing() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    let stranger = world.server("c.test", 3).await;
    let mut far = Far::joined(&hs, &there, "12", "world_readable").await;
    let event = far.say("hello").await;
    let refused = ask_all(&stranger, &far, &event).await;
    assert_eq!(refused[0], StatusCode::NOT_FOUND, "by its id alone an event is not even there");
    assert_eq!(refused[1..], [StatusCode::FORBIDDEN; 4]);
    let to = [event.clone()];
    let asked = stranger.client.get_missing_events(here(), far.id(), missing(&[], &to, 10)).await;
    assert_eq!(status(asked), StatusCode::FORBIDDEN);
    let nowhere = room_id!("!nowhere:hs.test");
    assert_eq!(status(stranger.client.state_ids(here(), nowhere, &event).await), StatusCode::FORBIDDEN, "nor rooms");
}

#[tokio::test]
async fn servers_that_the_acl_denies_are_told_nothing() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    let mut far = Far::joined(&hs, &there, "11", "shared").await;
    let acl = json!({ "allow": ["*"], "deny": ["B.test"], "allow_ip_literals": true });
    let event = far.set("m.room.server_acl", "", acl).await;
    let refused = ask_all(&there, &far, &event).await;
    assert_eq!((refused[0], &refused[1..]), (StatusCode::NOT_FOUND, &[StatusCode::FORBIDDEN; 4][..]));
}

#[tokio::test]
async fn history_from_before_a_server_was_there_is_sent_without_content_where_the_room_says_so() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    for (visibility, shown) in [("world_readable", true), ("shared", true), ("invited", false), ("joined", false)] {
        let mut far = Far::outside(&hs, &there, "11", visibility).await;
        let secret = far.say("secret").await;
        let joined = far.join().await;
        let later = far.say("later").await;
        let expected = [Some("later".to_owned()), None, shown.then(|| "secret".to_owned())];
        let back = there.client.backfill(here(), far.id(), std::slice::from_ref(&later), 3).await.expect("history");
        assert_eq!(
            (ids(&far, &back), &bodies(&back)[..]),
            (vec![later, joined.clone(), secret.clone()], &expected[..]),
            "{visibility}"
        );
        let to = [joined];
        let missed = there.client.get_missing_events(here(), far.id(), missing(&[], &to, 1)).await.expect("events");
        assert_eq!(bodies(&missed), expected[2..], "{visibility}");
        let event = there.client.event(here(), &secret).await.expect("its place in the DAG");
        assert_eq!(bodies(&[event]), expected[2..], "{visibility}");
    }
}

#[tokio::test]
async fn a_server_that_was_invited_sees_what_came_after_the_invite_where_that_is_enough() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    for (visibility, shown) in [("invited", true), ("joined", false)] {
        let mut far = Far::outside(&hs, &there, "11", visibility).await;
        far.invite().await;
        let between = far.say("between").await;
        assert_eq!(
            status(there.client.event(here(), &between).await),
            StatusCode::NOT_FOUND,
            "it was never in the room"
        );
        far.join().await;
        let event = there.client.event(here(), &between).await.expect("an event");
        assert_eq!(bodies(&[event]), [shown.then(|| "between".to_owned())], "{visibility}");
    }
}

#[tokio::test]
async fn a_server_that_has_left_sees_what_it_could_see_and_nothing_later() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    let mut far = Far::outside(&hs, &there, "11", "joined").await;
    let early = far.say("early").await;
    far.join().await;
    let during = far.say("during").await;
    let left = far.member("leave").await;
    let late = far.say("late").await;
    let event = there.client.event(here(), &during).await.expect("an event");
    assert_eq!(bodies(&[event]), [Some("during".to_owned())]);
    there.client.event(here(), &left).await.expect("its own event");
    for hidden in [&early, &late] {
        assert_eq!(ask_all(&there, &far, hidden).await, [StatusCode::NOT_FOUND; 5]);
    }
    let back = there.client.backfill(here(), far.id(), &[left, late], 500).await.expect("history");
    assert!(!ids(&far, &back).contains(&early));
    assert!(bodies(&back).iter().flatten().all(|body| body == "during"), "{:?}", bodies(&back));
}

/// SECURITY 22.
#[tokio::test]
async fn redacted_events_are_sent_redacted() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    for version in ["10", "11"] {
        let mut far = Far::joined(&hs, &there, version, "shared").await;
        let topic = far.set("m.room.topic", "", json!({ "topic": "secret" })).await;
        let (said, last) = (far.say("secret").await, far.say("last").await);
        for target in [&topic, &said] {
            let redaction = Outgoing::message(far.alice.clone(), "m.room.redaction", object(&json!({})));
            let redaction = Outgoing { redacts: Some(target.clone()), ..redaction };
            far.room.send(redaction).await.expect("redacts");
        }
        let event = there.client.event(here(), &said).await.expect("an event");
        assert_eq!((bodies(std::slice::from_ref(&event)), ids(&far, &[event])), (vec![None], vec![said]));
        let state = there.client.state(here(), far.id(), &last).await.expect("a state");
        assert!(ids(&far, &state.pdus).contains(&topic), "its id is the same");
        assert!(state.pdus.iter().all(|pdu| !pdu.get().contains("secret")), "{version}");
    }
}

#[tokio::test]
async fn times_are_looked_up_among_the_events_that_the_server_sees() {
    let world = World::new();
    let (hs, there) = pair(&world).await;
    let mut far = Far::outside(&hs, &there, "11", "joined").await;
    world.clock.advance(Duration::from_mins(1));
    far.say("hidden").await;
    world.clock.advance(Duration::from_mins(1));
    far.join().await;
    world.clock.advance(Duration::from_mins(1));
    let seen = far.say("seen").await;
    let found = there.client.timestamp_to_event(here(), far.id(), 1_700_000_050_000, true).await.expect("found");
    assert_eq!((found.event_id, found.origin_server_ts.0), (seen, 1_700_000_180_000));
}
