//! What a server does that means no good, or is only slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use federation_client::LeftPdus;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::world::World;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{OK, knows, next, pair, put, send, transaction, value};
use crate::far::Far;

/// Lets other tasks go on until something holds.
async fn until(holds: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never held");
}

#[tokio::test]
async fn answers_that_make_no_sense_are_not_stored_and_the_room_goes_on() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let other = Far::joined(&here, &peer.server, "11", "shared").await;
    let joined = far.last.clone();
    let mut float = value(&next(&mut far, "float").await);
    float["content"]["n"] = json!(1.5);
    let garbage: [Value; 7] = [
        json!([]),
        json!({ "events": {} }),
        json!({ "events": [1, "x", null, {}] }),
        json!({ "events": [float] }),
        json!({ "events": vec![value(&other.make(&far.bob, "m.room.message", None, &json!({})).await); 100] }),
        json!({ "events": vec!["x".repeat(1 << 16); 400] }),
        json!({ "events": [value(&next(&mut far, "gap").await)] }),
    ];
    for (n, answer) in garbage.iter().enumerate() {
        peer.says("/get_missing_events/", answer);
        far.last = ruma::EventId::parse(format!("${}", "A".repeat(43))).expect("an id");
        let lost = next(&mut far, &n.to_string()).await;
        let pdus = send(&here, &peer, &n.to_string(), &[value(&lost)]).await;
        assert_eq!(pdus, json!({ lost.event_id().as_str(): {} }), "it is not refused");
        assert!(!knows(&far, lost.event_id()).await);
        // The room goes on.
        far.last = joined.clone();
        let good = next(&mut far, &format!("good {n}")).await;
        assert_eq!(
            send(&here, &peer, &format!("good {n}").replace(' ', ""), &[value(&good)]).await[good.event_id().as_str()],
            json!({})
        );
    }
}

#[tokio::test]
async fn who_gives_events_without_end_is_asked_a_bounded_number_of_times() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    far.last = ruma::event_id!("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").to_owned();
    let mut chain = Vec::new();
    for n in 0..40 {
        // Twenty events that follow others which nobody gives, each at a gap of its own.
        far.last = ruma::EventId::parse(format!("${n:A>43}")).expect("an id");
        chain.push(value(&next(&mut far, &n.to_string()).await));
    }
    peer.says("/get_missing_events/", &json!({ "events": chain }));
    let count = Arc::new(AtomicUsize::new(0));
    let ids = Arc::clone(&count);
    peer.answers("/state_ids/", move |_, _| {
        let n = ids.fetch_add(1, Ordering::Relaxed);
        let pdu_ids: Vec<_> = (0..45).map(|id| format!("${:B>43}", n * 100 + id)).collect();
        std::future::ready(Bytes::from(json!({ "pdu_ids": pdu_ids, "auth_chain_ids": [] }).to_string()))
    });
    let last = next(&mut far, "last").await;
    let pdus = send(&here, &peer, "1", &[value(&last)]).await;
    assert_eq!(pdus, json!({ last.event_id().as_str(): {} }), "it is not refused");
    assert!(!knows(&far, last.event_id()).await);
    let asked = peer.asked("/federation/").len();
    assert!(asked <= 650, "{asked}");
    assert!(count.load(Ordering::Relaxed) <= 20, "no more events are looked at than were asked for");
}

#[tokio::test]
async fn a_slow_room_delays_no_other_and_who_comes_again_waits_for_the_same_answer() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut slow = Far::joined(&here, &peer.server, "11", "shared").await;
    let mut quick = Far::joined(&here, &peer.server, "11", "shared").await;
    let (lost, found) = (next(&mut slow, "lost").await, next(&mut slow, "found").await);
    let gate = Arc::new(Semaphore::new(0));
    let (held, events) = (Arc::clone(&gate), json!({ "events": [value(&lost)] }).to_string());
    peer.answers("/get_missing_events/", move |_, _| {
        let (held, events) = (Arc::clone(&held), events.clone());
        async move {
            drop(held.acquire().await);
            events.into()
        }
    });
    let (one, two) = (next(&mut quick, "one").await, next(&mut quick, "two").await);
    let body = transaction(&peer.server, &[value(&found), value(&one)]);
    let first = put(&here, &peer.server, "slow", &body);
    let again = put(&here, &peer.server, "slow", &body);
    let meanwhile = async {
        until(|| !peer.asked("/get_missing_events/").is_empty()).await;
        // Of the same transaction, and of another.
        while !knows(&quick, one.event_id()).await {
            tokio::task::yield_now().await;
        }
        let pdus = send(&here, &peer, "quick", &[value(&two)]).await;
        assert_eq!(pdus, json!({ two.event_id().as_str(): {} }));
        assert!(!knows(&slow, found.event_id()).await);
        gate.add_permits(1);
    };
    let (first, again, ()) = futures_util::future::join3(first, again, meanwhile).await;
    assert_eq!(first, again);
    let expected = json!({ "pdus": { found.event_id().as_str(): {}, one.event_id().as_str(): {} } });
    assert_eq!(first, (OK, expected));
    assert_eq!(peer.asked("/get_missing_events/").len(), 1, "done once");
    assert!(knows(&slow, lost.event_id()).await && knows(&slow, found.event_id()).await);
}

#[tokio::test]
async fn a_transaction_is_answered_without_a_room_that_takes_long_and_the_room_goes_on() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut slow = Far::joined(&here, &peer.server, "11", "shared").await;
    let mut quick = Far::joined(&here, &peer.server, "11", "shared").await;
    let (lost, found) = (next(&mut slow, "lost").await, next(&mut slow, "found").await);
    let one = next(&mut quick, "one").await;
    let gate = Arc::new(Semaphore::new(0));
    let (held, events) = (Arc::clone(&gate), json!({ "events": [value(&lost)] }).to_string());
    peer.answers("/get_missing_events/", move |_, _| {
        let (held, events) = (Arc::clone(&held), events.clone());
        async move {
            drop(held.acquire().await);
            events.into()
        }
    });
    let events = [value(&found), value(&one)];
    let sent = send(&here, &peer, "1", &events);
    let time = async {
        until(|| !peer.asked("/get_missing_events/").is_empty()).await;
        world.clock.advance(Duration::from_secs(15));
    };
    let (pdus, ()) = futures_util::future::join(sent, time).await;
    assert_eq!(pdus, json!({ one.event_id().as_str(): {} }));
    assert!(!knows(&slow, found.event_id()).await);
    gate.add_permits(1);
    while !knows(&slow, found.event_id()).await {
        tokio::task::yield_now().await;
    }
    assert!(knows(&slow, lost.event_id()).await);
}

#[tokio::test]
async fn what_was_left_to_a_slow_room_is_judged_after_a_kill() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut slow = Far::joined(&here, &peer.server, "11", "shared").await;
    let (lost, found) = (next(&mut slow, "lost").await, next(&mut slow, "found").await);
    peer.answers("/get_missing_events/", |_, _| std::future::pending::<Bytes>());
    let (left, events) = (LeftPdus::new(here.parts.storage.clone()), [value(&found)]);
    let sent = send(&here, &peer, "1", &events);
    let time = async {
        until(|| !peer.asked("/get_missing_events/").is_empty()).await;
        assert!(left.next(None).await.expect("read").is_none());
        world.clock.advance(Duration::from_secs(15));
    };
    let (pdus, ()) = futures_util::future::join(sent, time).await;
    assert_eq!(pdus, json!({}), "it is answered, and its event is not judged");
    let kept = left.next(None).await.expect("read").expect("kept");
    assert_eq!((kept.origin.as_str(), kept.room_id.as_str(), kept.pdus.len()), ("b.test", slow.id().as_str(), 1));

    // The server is gone; the next one begins with what is in the store.
    peer.says("/get_missing_events/", &json!({ "events": [value(&lost)] }));
    let started = world.server_on(here.parts.storage.clone(), "hs.test", 1, Vec::new()).await;
    let (stop, inbound) = (CancellationToken::new(), started.federation.inbound.clone());
    let judged = async {
        while left.next(None).await.expect("read").is_some() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    futures_util::future::join(inbound.run(started.parts.rooms.clone(), stop.clone()), judged).await;
    let reader = slow.reader().await;
    for event in [lost, found] {
        assert!(started.parts.reads.event(&reader, slow.id(), event.event_id()).await.is_ok());
    }
}

#[tokio::test]
async fn a_transaction_that_the_end_of_the_server_breaks_off_is_done_when_it_is_sent_again() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut slow = Far::joined(&here, &peer.server, "11", "shared").await;
    let (lost, found) = (next(&mut slow, "lost").await, next(&mut slow, "found").await);
    peer.answers("/get_missing_events/", |_, _| std::future::pending::<Bytes>());
    let (stop, inbound) = (CancellationToken::new(), here.federation.inbound.clone());
    let body = transaction(&peer.server, &[value(&found)]);
    let sent = put(&here, &peer.server, "1", &body);
    let end = async {
        until(|| !peer.asked("/get_missing_events/").is_empty()).await;
        stop.cancel();
    };
    let run = inbound.run(here.parts.rooms.clone(), stop.clone());
    let ((status, _), (), ()) = futures_util::future::join3(sent, run, end).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);

    peer.says("/get_missing_events/", &json!({ "events": [value(&lost)] }));
    let started = world.server_on(here.parts.storage.clone(), "hs.test", 1, Vec::new()).await;
    let pdus = send(&started, &peer, "1", &[value(&found)]).await;
    assert_eq!(pdus, json!({ found.event_id().as_str(): {} }));
}

#[tokio::test]
async fn one_server_has_three_transactions_under_way_and_fifty_waiting() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut slow = Far::joined(&here, &peer.server, "11", "shared").await;
    slow.last = ruma::event_id!("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").to_owned();
    let lost = value(&next(&mut slow, "lost").await);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    peer.answers("/get_missing_events/", move |_, _| {
        let held = Arc::clone(&held);
        async move {
            drop(held.acquire().await);
            "{}".into()
        }
    });
    let body = transaction(&peer.server, &[lost]);
    let txns: Vec<_> = (0..60).map(|n| n.to_string()).collect();
    let all = futures_util::future::join_all(txns.iter().map(|txn| put(&here, &peer.server, txn, &body)));
    let release = async {
        until(|| !peer.asked("/get_missing_events/").is_empty()).await;
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        // Others are not held up by it.
        let other = super::Peer::new(&world, "c.test", 3).await;
        assert_eq!(put(&here, &other.server, "1", &transaction(&other.server, &[])).await.0, OK);
        gate.add_permits(1);
    };
    let (answers, ()) = futures_util::future::join(all, release).await;
    let refused: Vec<_> = answers.iter().filter(|(status, _)| *status == StatusCode::TOO_MANY_REQUESTS).collect();
    assert_eq!(refused.len(), 7, "{refused:?}");
    assert!(refused.iter().all(|(_, body)| body["errcode"] == "M_LIMIT_EXCEEDED"));
    assert_eq!(answers.iter().filter(|(status, _)| *status == OK).count(), 53);
    assert_eq!(put(&here, &peer.server, "later", &transaction(&peer.server, &[])).await.0, OK);
}

#[tokio::test]
async fn events_with_rejected_auth_events_are_rejected_and_those_after_them_go_on() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    for version in ["11", "12"] {
        let mut far = Far::joined(&here, &peer.server, version, "shared").await;
        let bob = far.bob.clone();
        let levels = far.make(&bob, "m.room.power_levels", Some(""), &json!({ "users": {} })).await;
        let pdus = send(&here, &peer, &format!("1-{version}"), &[value(&levels)]).await;
        assert_eq!(pdus, json!({ levels.event_id().as_str(): {} }), "it has its verdict");
        assert!(!knows(&far, levels.event_id()).await);
        let body = json!({ "body": "by levels that nobody may set" });
        let mut auth = far.make(&bob, "m.room.message", None, &body).await.auth_events().to_vec();
        let ordinary = auth.clone();
        auth.push(levels.event_id().clone());
        let rejected = far.build(&bob, ("m.room.message", None, &body), &auth);
        far.last = rejected.event_id().clone();
        let after = far.build(&bob, ("m.room.message", None, &json!({ "body": "after" })), &ordinary);
        let pdus = send(&here, &peer, &format!("2-{version}"), &[value(&rejected), value(&after)]).await;
        assert_eq!(pdus, json!({ rejected.event_id().as_str(): {}, after.event_id().as_str(): {} }));
        assert!(!knows(&far, rejected.event_id()).await && knows(&far, after.event_id()).await);
    }
    // The create event is no auth event of version 12: such an event is rejected, and what follows it goes on.
    let mut far = Far::joined(&here, &peer.server, "12", "shared").await;
    let bob = far.bob.clone();
    let body = json!({ "body": "x" });
    let ordinary = far.make(&bob, "m.room.message", None, &body).await.auth_events().to_vec();
    let create = rooms::pdu::create_event_id(far.id()).expect("an id");
    let cites = far.build(&bob, ("m.room.message", None, &body), &[ordinary.clone(), vec![create]].concat());
    far.last = cites.event_id().clone();
    let after = far.build(&bob, ("m.room.message", None, &body), &ordinary);
    let pdus = send(&here, &peer, "create", &[value(&cites), value(&after)]).await;
    assert_eq!(pdus, json!({ cites.event_id().as_str(): {}, after.event_id().as_str(): {} }));
    assert!(!knows(&far, cites.event_id()).await && knows(&far, after.event_id()).await);
}
