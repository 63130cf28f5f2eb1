//! Events that are missing before those that were sent.

use rooms::Pdu;
use ruma::OwnedEventId;
use serde_json::{Value, json};
use testkit::world::World;

use super::{knows, next, pair, peer::Peer, send, value};
use crate::far::Far;

/// What the room's topic is.
async fn topic(far: &Far<'_>) -> Option<String> {
    let reader = far.reader().await;
    let event = far.here.parts.reads.state_event(&reader, far.id(), "m.room.topic", "").await.ok()?;
    let content: Value = event.event.content_as().expect("JSON");
    content["topic"].as_str().map(str::to_owned)
}

/// Answers `/state_ids` with the state before the room's last event here and this event, and `/event` with that and the event that it is asked at.
async fn gives_state(peer: &Peer, far: &Far<'_>, last: &OwnedEventId, changed: &Pdu, at: &Pdu) {
    let ids = peer.server.client.state_ids(&far.here.name, far.id(), last).await.expect("the state");
    let mut pdu_ids = ids.pdu_ids;
    pdu_ids.push(changed.event_id().clone());
    peer.says("/state_ids/", &json!({ "pdu_ids": pdu_ids, "auth_chain_ids": ids.auth_chain_ids }));
    peer.has_event(changed);
    peer.has_event(at);
}

#[tokio::test]
async fn what_lies_between_is_asked_for_once_and_comes_in_order() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let known = far.last.clone();
    let mut between = Vec::new();
    for n in 0..5 {
        between.push(next(&mut far, &n.to_string()).await);
    }
    let last = next(&mut far, "last").await;
    let given: Vec<_> = between.iter().rev().map(value).collect();
    let (known_id, last_id) = (known.to_string(), last.event_id().to_string());
    peer.answers("/get_missing_events/", move |_, body| {
        let asked: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(asked["earliest_events"], json!([known_id]));
        assert_eq!(asked["latest_events"], json!([last_id]));
        assert_eq!(asked["limit"], json!(20));
        std::future::ready(json!({ "events": given }).to_string().into())
    });
    let pdus = send(&here, &peer, "1", &[value(&last)]).await;
    assert_eq!(pdus, json!({ last.event_id().as_str(): {} }));
    for pdu in between.iter().chain([&last]) {
        assert!(knows(&far, pdu.event_id()).await);
    }
    assert_eq!(peer.asked("/get_missing_events/").len(), 1);
    assert!(peer.asked("/state").is_empty(), "there is no gap");
}

#[tokio::test]
async fn before_a_gap_stands_the_state_that_the_other_server_gives() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    for version in ["10", "12"] {
        let mut far = Far::joined(&here, &peer.server, version, "shared").await;
        let users = if version == "12" { json!({}) } else { json!({ far.alice.as_str(): 100 }) };
        let levels = json!({ "events": { "m.room.topic": 0 }, "users": users });
        far.set("m.room.power_levels", "", levels).await;
        let known = far.say("known").await;
        let bob = far.bob.clone();
        let changed = far.make(&bob, "m.room.topic", Some(""), &json!({ "topic": "changed in the gap" })).await;
        far.last = changed.event_id().clone();
        let (lost, newest) = (next(&mut far, "lost").await, next(&mut far, "newest of the gap").await);
        let (pulled, sent) = (next(&mut far, "pulled").await, next(&mut far, "sent").await);
        peer.says("/get_missing_events/", &json!({ "events": [value(&pulled)] }));
        gives_state(&peer, &far, &known, &changed, &newest).await;
        let pdus = send(&here, &peer, version, &[value(&sent)]).await;
        assert_eq!(pdus, json!({ sent.event_id().as_str(): {} }), "{version}");
        assert!(knows(&far, sent.event_id()).await && knows(&far, pulled.event_id()).await);
        assert!(!knows(&far, lost.event_id()).await);
        assert_eq!(topic(&far).await.as_deref(), Some("changed in the gap"));
        let at = newest.event_id().as_str().trim_start_matches('$').to_owned();
        assert!(peer.asked("/state_ids/").last().is_some_and(|path| path.contains(&at)));
        assert!(far.room.verify().await.expect("readable").faults.is_empty());
    }
}

#[tokio::test]
async fn an_event_that_can_not_be_judged_is_judged_afresh_when_it_comes_again() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let (first, second) = (next(&mut far, "first").await, next(&mut far, "second").await);
    let pdus = send(&here, &peer, "1", &[value(&second)]).await;
    assert_eq!(pdus, json!({ second.event_id().as_str(): {} }), "it is not refused");
    assert!(!knows(&far, second.event_id()).await);
    let asked = peer.asked("/v1/").len();
    let pdus = send(&here, &peer, "2", &[value(&second)]).await;
    assert_eq!(pdus, json!({ second.event_id().as_str(): {} }), "it is not refused");
    assert_eq!(peer.asked("/v1/").len(), asked, "what failed a moment ago is not asked for again");
    assert_eq!(send(&here, &peer, "3", &[value(&first)]).await, json!({ first.event_id().as_str(): {} }));
    assert_eq!(send(&here, &peer, "4", &[value(&second)]).await, json!({ second.event_id().as_str(): {} }));
    assert!(knows(&far, second.event_id()).await);
}

#[tokio::test]
async fn missing_auth_events_are_fetched_by_the_chain_or_one_by_one() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    for by_chain in [true, false] {
        let far = Far::joined(&here, &peer.server, "11", "shared").await;
        let bob = far.bob.clone();
        let joined = far.last.clone();
        // Bob changes his name, of which nobody is told; then he speaks on another branch by his new membership.
        let content = json!({ "membership": "join", "displayname": "B" });
        let renamed = far.make(&bob, "m.room.member", Some(bob.as_str()), &content).await;
        let body = json!({ "body": "by another name" });
        let before = far.make(&bob, "m.room.message", None, &body).await;
        let auth = before.auth_events().iter().map(|id| if *id == joined { renamed.event_id() } else { id });
        let spoken = far.build(&bob, ("m.room.message", None, &body), &auth.cloned().collect::<Vec<_>>());
        if by_chain {
            peer.says("/event_auth/", &json!({ "auth_chain": [value(&renamed)] }));
        } else {
            peer.says("/event_auth/", &json!({ "auth_chain": [] }));
            peer.has_event(&renamed);
        }
        let pdus = send(&here, &peer, &by_chain.to_string(), &[value(&spoken)]).await;
        assert_eq!(pdus, json!({ spoken.event_id().as_str(): {} }), "{by_chain}");
        assert!(knows(&far, spoken.event_id()).await);
        assert_eq!(peer.asked(renamed.event_id().as_str().trim_start_matches('$')).is_empty(), by_chain);
    }
}
