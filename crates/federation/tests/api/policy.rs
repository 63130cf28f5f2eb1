//! Rooms with a policy server: own events are signed by it before they are sent, and received ones that it hasn't signed are shown to it.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use primitives::ServerKey;
use rooms::{Details, Incoming, Outgoing, Pdu, Received, Rider, Room, RoomVersion, SendError};
use ruma::{EventId, OwnedServerName, serde::Base64};
use serde_json::{Value, json};
use storage::{
    Batch,
    schema::rooms::{PublishedRooms, Verdict},
};
use testkit::world::{Server, World};

use crate::{
    ask_signed,
    far::{Far, object},
    membership::{check, join, member_pdu, state},
};

const KEY_ID: &str = "ed25519:policy_server";
const SIGN: &str = "/_matrix/policy/v1/sign";

fn key(seed: u8) -> ServerKey {
    ServerKey::new("policy_server", [seed; 32]).expect("a key")
}

fn public(seed: u8) -> String {
    Base64::<ruma::serde::base64::Standard>::new(key(seed).public().to_vec()).encode()
}

fn content(via: &Server, seed: u8) -> Value {
    json!({ "via": via.name, "public_keys": { "ed25519": public(seed) } })
}

/// What a policy server answers that signs an event with a key.
fn signed(pdu: &Pdu, name: &OwnedServerName, seed: u8) -> (u16, Value) {
    let signed = pdu.cosigned(&key(seed), name).expect("signs");
    let signed: Value = serde_json::from_str(signed.json()).expect("JSON");
    (200, json!({ name.as_str(): { KEY_ID: signed["signatures"][name.as_str()][KEY_ID] } }))
}

fn spam() -> (u16, Value) {
    (400, json!({ "errcode": "M_FORBIDDEN", "error": "this looks like spam" }))
}

/// Has a server answer as a policy server, and as itself to all else. What it is asked about is noted.
fn police<F, A>(world: &World, server: &Server, version: RoomVersion, path: &'static str, answer: F) -> Asked
where
    F: Fn(Pdu) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = (u16, Value)> + Send + 'static,
{
    let asked = Asked::default();
    let (noted, served) = (asked.clone(), server.federation.clone());
    world.servers.serve(server.name.clone(), move |request: Request<Bytes>| {
        let (noted, served, answer) = (noted.clone(), served.clone(), answer.clone());
        async move {
            if request.uri().path() != path {
                return testkit::world::serve(served, request).await;
            }
            let pdu = Pdu::parse(version, request.body()).expect("an event");
            noted.0.lock().push(pdu.clone());
            let (status, body) = answer(pdu).await;
            Response::builder().status(status).body(Bytes::from(body.to_string())).expect("an answer")
        }
    });
    asked
}

/// The events that a policy server was asked about.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Pdu>>>);

impl Asked {
    fn kinds(&self) -> Vec<String> {
        self.0.lock().drain(..).map(|pdu| pdu.kind().to_owned()).collect()
    }
}

/// Signs everything.
fn lenient(world: &World, server: &Server, version: RoomVersion, path: &'static str) -> Asked {
    let name = server.name.clone();
    police(world, server, version, path, move |pdu| std::future::ready(signed(&pdu, &name, 9)))
}

fn message(far: &Far<'_>, body: &str) -> Outgoing {
    Outgoing::message(far.alice.clone(), "m.room.message", object(&json!({ "body": body })))
}

/// An event that also puts the room into the directory.
fn publishing(far: &Far<'_>, body: &str) -> Outgoing {
    let nid = far.room.nid();
    let rider = Rider::new(move |_| {
        let mut batch = Batch::new();
        batch.put::<PublishedRooms>(&(nid,), &());
        batch
    });
    Outgoing { riders: vec![rider], ..message(far, body) }
}

async fn is_published(room: &Room, server: &Server) -> bool {
    server.parts.reads.is_published(room.nid()).await.expect("readable")
}

/// The signatures of an event as a server hands it out.
async fn signatures(here: &Server, there: &Server, id: &EventId) -> Value {
    let path = format!("/_matrix/federation/v1/event/{}", id.as_str().replace('$', "%24"));
    ask_signed(here, there, "GET", &path, "").await.1["pdus"][0]["signatures"].clone()
}

#[tokio::test]
async fn own_events_are_signed_before_they_are_sent_once_the_policy_server_is_in_the_room() {
    for (version, path) in [("6", SIGN), ("12", SIGN), ("11", "/_matrix/policy/unstable/org.matrix.msc4284/sign")] {
        let world = World::new();
        let (a, p) = (world.server("a.test", 1).await, world.server("policy.test", 2).await);
        let mut far = Far::outside(&a, &p, version, "shared").await;
        let asked = lenient(&world, &p, far.room.version(), path);
        far.set("m.room.policy", "", content(&p, 9)).await;
        far.say("nobody of the policy server is here").await;
        far.join().await;
        assert_eq!(asked.kinds(), [""; 0], "version {version}");

        let sent = far.room.send(publishing(&far, "signed")).await.expect("sent");
        assert_eq!(asked.kinds(), ["m.room.message"]);
        assert!(is_published(&far.room, &a).await, "what goes with it is written");
        let all = signatures(&a, &p, &sent.event_id).await;
        assert!(all["policy.test"][KEY_ID].is_string() && all["a.test"].is_object(), "{all}");

        // Only the event that names the policy server goes without; and state that is so already needs nothing.
        far.set("m.room.topic", "", json!({ "topic": "t" })).await;
        far.set("m.room.topic", "", json!({ "topic": "t" })).await;
        far.set("m.room.policy", "other", json!({})).await;
        let same = Outgoing::message(far.alice.clone(), "m.room.policy", object(&json!({})));
        far.room.send(same).await.expect("sent");
        assert_eq!(asked.kinds(), ["m.room.topic", "m.room.policy", "m.room.policy"]);
        far.set("m.room.policy", "", json!({})).await;
        far.say("free again").await;
        assert_eq!(asked.kinds(), [""; 0]);
        check(&a).await;
    }
}

#[tokio::test]
async fn an_event_that_the_policy_server_does_not_sign_is_not_sent() {
    let world = World::new();
    let (a, p) = (world.server("a.test", 1).await, world.server("policy.test", 2).await);
    let mut far = Far::joined(&a, &p, "12", "shared").await;
    let version = far.room.version();
    far.set("m.room.policy", "", content(&p, 9)).await;
    police(&world, &p, version, SIGN, |_| std::future::ready(spam()));
    let refused = far.room.send(publishing(&far, "buy")).await;
    assert!(
        matches!(&refused, Err(SendError::Forbidden { reason }) if reason == "this looks like spam"),
        "{refused:?}"
    );

    police(&world, &p, version, SIGN, |_| std::future::ready((429, json!({ "errcode": "M_LIMIT_EXCEEDED" }))));
    let refused = far.room.send(publishing(&far, "fast")).await;
    assert!(matches!(refused, Err(SendError::LimitExceeded { .. })), "{refused:?}");
    // A code that would log the client out is not handed on.
    police(&world, &p, version, SIGN, |_| std::future::ready((401, json!({ "errcode": "M_UNKNOWN_TOKEN" }))));
    let refused = far.room.send(publishing(&far, "who")).await;
    assert!(matches!(refused, Err(SendError::Remote(_))), "{refused:?}");
    let name = p.name.clone();
    police(&world, &p, version, SIGN, move |pdu| std::future::ready(signed(&pdu, &name, 8)));
    let refused = far.room.send(publishing(&far, "wrong key")).await;
    assert!(matches!(refused, Err(SendError::Remote(_))), "{refused:?}");
    world.servers.remove(&p.name);
    let topic = Outgoing::state(far.alice.clone(), "m.room.topic", "", object(&json!({ "topic": "x" })));
    let refused = far.room.send(topic).await;
    assert!(matches!(refused, Err(SendError::Remote(_))), "{refused:?}");

    assert_eq!(state(&a, &far.alice, far.id(), "m.room.topic", "").await, None);
    assert!(!is_published(&far.room, &a).await, "nothing that was to go with them is written");
    // The room gets rid of a policy server that is gone.
    far.set("m.room.policy", "", json!({})).await;
    far.say("at last").await;
    check(&a).await;
}

#[tokio::test]
async fn an_event_is_made_and_signed_anew_if_the_room_has_changed_meanwhile() {
    let world = World::new();
    let (a, p) = (world.server("a.test", 1).await, world.server("policy.test", 2).await);
    let mut far = Far::joined(&a, &p, "12", "shared").await;
    far.set("m.room.policy", "", content(&p, 9)).await;
    let (room, alice, name) = (far.room.clone(), far.alice.clone(), p.name.clone());
    let (other, times) = (object(&content(&p, 8)), Arc::new(Mutex::new(0_u8)));
    let asked = police(&world, &p, far.room.version(), SIGN, move |pdu| {
        let (room, alice, name, other) = (room.clone(), alice.clone(), name.clone(), other.clone());
        let seed = 9 - std::mem::replace(&mut *times.lock(), 1);
        async move {
            if seed == 9 {
                // While the first is signed, the room's key becomes another.
                let event = Outgoing::state(alice, "m.room.policy", "", other);
                room.send(event).await.expect("sent");
            }
            signed(&pdu, &name, seed)
        }
    });
    far.room.send(publishing(&far, "twice")).await.expect("sent");
    let asked: Vec<_> = asked.0.lock().drain(..).collect();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].event_id(), asked[1].event_id(), "it stands after the new key");
    assert!(is_published(&far.room, &a).await);
    check(&a).await;
}

#[tokio::test]
async fn a_received_event_that_is_not_signed_is_shown_to_the_policy_server() {
    let world = World::new();
    let (a, p) = (world.server("a.test", 1).await, world.server("policy.test", 2).await);
    let mut far = Far::joined(&a, &p, "12", "shared").await;
    far.set("m.room.policy", "", content(&p, 9)).await;
    let asked = lenient(&world, &p, far.room.version(), SIGN);
    let bob = far.bob.clone();
    let say = json!({ "body": "hello" });
    // The policy server's own user: its usual signature stays beside the policy server's.
    let first = far.make(&bob, "m.room.message", None, &say).await;
    let id = far.hand_in(first).await;
    assert_eq!(asked.kinds().len(), 1);
    let all = signatures(&a, &p, &id).await;
    assert!(all["policy.test"][KEY_ID].is_string() && all["policy.test"]["ed25519:k2"].is_string(), "{all}");
    // One that is signed is not asked about.
    let second = far.make(&bob, "m.room.message", None, &say).await.cosigned(&key(9), &p.name).expect("signs");
    far.hand_in(second).await;
    assert_eq!(asked.kinds().len(), 0);
    // Events that follow each other, in the wrong order.
    let third = far.make(&bob, "m.room.message", None, &say).await;
    let before = std::mem::replace(&mut far.last, third.event_id().clone());
    let fourth = far.make(&bob, "m.room.message", None, &say).await;
    let remote = a.parts.rooms.remote().expect("federation");
    let events = vec![Incoming::new(fourth.json()), Incoming::new(third.json())];
    let received = far.room.receive(events, remote).await.expect("received");
    assert!(received.iter().all(|one| matches!(one, Received::Stored(_, Verdict::Accepted))), "{received:?}");
    assert_eq!(asked.kinds().len(), 2);

    police(&world, &p, far.room.version(), SIGN, |_| std::future::ready(spam()));
    far.last = before;
    let topic = far.make(&bob, "m.room.message", None, &json!({ "body": "buy" })).await;
    let received = far.room.receive(vec![Incoming::new(topic.json())], remote).await.expect("received");
    assert!(matches!(&received[..], [Received::Stored(_, Verdict::SoftFailed(_))]), "{received:?}");
    // What its auth events forbid is rejected, and nobody is asked about it.
    let asked = lenient(&world, &p, far.room.version(), SIGN);
    let forbidden = far.make(&bob, "m.room.power_levels", Some(""), &json!({ "users": { bob.as_str(): 100 } })).await;
    let received = far.room.receive(vec![Incoming::new(forbidden.json())], remote).await.expect("received");
    assert!(matches!(&received[..], [Received::Stored(_, Verdict::Rejected(_))]), "{received:?}");
    assert_eq!(asked.kinds().len(), 0);
    check(&a).await;
}

#[tokio::test]
async fn joins_and_invites_across_servers_are_signed_too() {
    let world = World::new();
    let (a, p, c) =
        (world.server("a.test", 1).await, world.server("policy.test", 2).await, world.server("c.test", 3).await);
    let mut far = Far::joined(&a, &p, "11", "shared").await;
    far.set("m.room.policy", "", content(&p, 9)).await;
    let asked = lenient(&world, &p, far.room.version(), SIGN);
    let carol = c.user("carol").await;
    join(&c, &carol, far.id(), &[&a]).await.expect("joined");
    let joined = member_pdu(&a, &far.alice, far.id(), &carol).await;
    assert!(joined["signatures"]["policy.test"][KEY_ID].is_string(), "{joined}");
    assert_eq!(asked.kinds(), ["m.room.member"]);
    // Her server knows the room now, and asks by itself.
    let there = c.parts.rooms.room(far.id()).await.expect("there");
    let hello = Outgoing::message(carol.clone(), "m.room.message", object(&json!({ "body": "hello" })));
    there.send(hello).await.expect("sent");
    assert_eq!(asked.kinds(), ["m.room.message"]);

    let dora = c.user("dora").await;
    far.room.invite(&far.alice, &dora, Details::default()).await.expect("invited");
    let invited = member_pdu(&a, &far.alice, far.id(), &dora).await;
    assert!(invited["signatures"]["policy.test"][KEY_ID].is_string(), "{invited}");
    assert!(invited["signatures"]["c.test"].is_object(), "{invited}");
    assert_eq!(asked.kinds(), ["m.room.member"; 1], "one question is enough");
    police(&world, &p, far.room.version(), SIGN, |_| std::future::ready(spam()));
    let refused = far.room.invite(&far.alice, &c.user("eve").await, Details::default()).await;
    assert!(matches!(refused, Err(SendError::Forbidden { .. })), "{refused:?}");
    assert_eq!(world.servers.asked().iter().filter(|(_, path)| path.contains("/invite/")).count(), 1);
    check(&a).await;
}

#[tokio::test]
async fn a_room_that_forks_is_brought_together_by_a_signed_event() {
    let world = World::new();
    let (a, p) = (world.server("a.test", 1).await, world.server("policy.test", 2).await);
    let mut far = Far::joined(&a, &p, "12", "shared").await;
    far.set("m.room.policy", "", content(&p, 9)).await;
    let asked = lenient(&world, &p, far.room.version(), SIGN);
    let bob = far.bob.clone();
    let mut beside = Vec::new();
    for number in 0..12 {
        let pdu = far.make(&bob, "m.room.message", None, &json!({ "body": number.to_string() })).await;
        beside.push(Incoming::new(pdu.json()));
    }
    let remote = a.parts.rooms.remote().expect("federation");
    let received = far.room.receive(beside, remote).await.expect("received");
    assert!(received.iter().all(|one| matches!(one, Received::Stored(_, Verdict::Accepted))), "{received:?}");
    let merging = asked.0.lock().pop().expect("asked");
    assert_eq!((merging.kind(), merging.prev_events().len()), ("org.matrix.dummy_event", 12));
    check(&a).await;
}
