//! Transactions: who may send them, what becomes of what is in them, and what is asked for when something is missing.

mod hostile;
mod missing;
mod peer;

use http::StatusCode;
use rooms::{Incoming, Pdu};
use ruma::{OwnedEventId, UserId};
use serde_json::{Value, json};
use testkit::world::{Server, World};

use self::peer::{Peer, put, transaction};
use super::far::Far;

const OK: StatusCode = StatusCode::OK;

async fn pair(world: &World) -> (Server, Peer) {
    (world.server("hs.test", 1).await, Peer::new(world, "b.test", 2).await)
}

/// What Bob says next. Nobody is told.
async fn next(far: &mut Far<'_>, body: &str) -> Pdu {
    let bob = far.bob.clone();
    let pdu = far.make(&bob, "m.room.message", None, &json!({ "body": body })).await;
    far.last = pdu.event_id().clone();
    pdu
}

/// Whether an event is part of the room.
async fn knows(far: &Far<'_>, id: &OwnedEventId) -> bool {
    let reader = far.reader().await;
    far.here.parts.reads.event(&reader, far.id(), id).await.is_ok()
}

fn value(pdu: &Pdu) -> Value {
    serde_json::from_str(pdu.json()).expect("JSON")
}

/// Sends events and gives what is said of each.
async fn send(here: &Server, peer: &Peer, txn: &str, pdus: &[Value]) -> Value {
    let (status, body) = put(here, &peer.server, txn, &transaction(&peer.server, pdus)).await;
    assert_eq!(status, OK, "{body}");
    body["pdus"].clone()
}

#[tokio::test]
async fn what_a_server_of_the_room_sends_is_taken_in_and_answered_by_event() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    for version in ["6", "10", "11", "12"] {
        let mut far = Far::joined(&here, &peer.server, version, "shared").await;
        let (one, two) = (next(&mut far, "one").await, next(&mut far, "two").await);
        let mut body = transaction(&peer.server, &[value(&one), value(&two)]);
        body["edus"] = json!([{ "edu_type": "org.example.unknown", "content": {} }, "nonsense"]);
        let (status, answer) = put(&here, &peer.server, &format!("t{version}"), &body).await;
        let expected = json!({ "pdus": { one.event_id().as_str(): {}, two.event_id().as_str(): {} } });
        assert_eq!((status, answer), (OK, expected), "{version}");
        assert!(knows(&far, one.event_id()).await && knows(&far, two.event_id()).await);
        assert!(peer.asked("/event").is_empty(), "nothing was missing");
    }
}

#[tokio::test]
async fn transactions_of_others_and_over_the_bounds_are_refused() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let pdu = next(&mut far, "refused").await;
    let whole = |count: usize, edus: usize| {
        let mut body = transaction(&peer.server, &vec![value(&pdu); count]);
        body["edus"] = json!(vec![json!({ "edu_type": "x", "content": {} }); edus]);
        body
    };
    let mut forged = whole(1, 0);
    forged["origin"] = json!("c.test");
    let mut shapeless = whole(1, 0);
    shapeless["pdus"] = json!({});
    let long = "x".repeat(256);
    for (txn, body) in
        [("1", forged), ("2", whole(51, 0)), ("3", whole(1, 101)), ("4", shapeless), (&long, whole(1, 0))]
    {
        let (status, answer) = put(&here, &peer.server, txn, &body).await;
        assert_eq!((status, &answer["errcode"]), (StatusCode::BAD_REQUEST, &json!("M_BAD_JSON")), "{answer}");
    }
    let stranger = Peer::new(&world, "c.test", 3).await;
    let (status, _) = peer::put_as(&here, &stranger.server, "b.test", "5", &whole(1, 0)).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(!knows(&far, pdu.event_id()).await);
    assert_eq!(put(&here, &peer.server, "6", &whole(50, 100)).await.0, OK);
}

#[tokio::test]
async fn one_bad_event_does_no_harm_to_the_others() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let other = Far::outside(&here, &peer.server, "11", "shared").await;
    let bob = far.bob.clone();
    let alone = other.make(&bob, "m.room.message", None, &json!({ "body": "not in the room" })).await;
    let alice = far.alice.clone();
    let mut forged = value(&far.make(&alice, "m.room.message", None, &json!({ "body": "forged" })).await);
    forged["signatures"] = json!({ "b.test": forged["signatures"]["hs.test"], "hs.test": { "ed25519:k1": "AAAA" } });
    let (changed, good) = (next(&mut far, "before").await, next(&mut far, "good").await);
    let mut tampered = value(&changed);
    tampered["content"]["body"] = json!("after");
    let mut float = value(&good);
    float["content"]["number"] = json!(-9_007_199_254_740_993_i64);
    let nowhere = json!({ "room_id": "!nowhere:b.test", "type": "m.room.message" });
    let all = [forged, nowhere, json!(7), json!({}), tampered, value(&alone), value(&good)];
    let pdus = send(&here, &peer, "1", &all).await;
    assert_eq!(pdus[good.event_id().as_str()], json!({}), "{pdus}");
    assert_eq!(pdus[changed.event_id().as_str()], json!({}), "what doesn't fit its hash counts as redacted");
    assert_eq!(pdus[alone.event_id().as_str()], json!({}), "it has its verdict");
    assert_eq!(pdus.as_object().expect("a map").len(), 4, "{pdus}");
    assert!(knows(&far, good.event_id()).await && !knows(&other, alone.event_id()).await);
    let reader = far.reader().await;
    let shown = here.parts.reads.event(&reader, far.id(), changed.event_id()).await.expect("there");
    assert_eq!(shown.event.content().get(), "{}");
}

#[tokio::test]
async fn a_number_that_is_none_of_canonical_json_costs_its_own_event_only() {
    for (version, number) in
        [("11", "1.50"), ("11", "9007199254740993"), ("11", "1e400"), ("12", "-0.0"), ("5", "1e3"), ("5", "1.5")]
    {
        let world = World::new();
        let (here, peer) = pair(&world).await;
        let mut far = Far::joined(&here, &peer.server, version, "shared").await;
        let (bad, good) = (next(&mut far, "bad").await, next(&mut far, "good").await);
        let edu = r#"{"content":{"n":NUMBER},"edu_type":"m.typing"}"#;
        let bad = value(&bad).to_string().replacen(r#""body":"bad""#, r#""body":"bad","n":NUMBER"#, 1);
        assert!(bad.contains("NUMBER"));
        let body = format!(r#"{{"edus":[{edu}],"origin":"b.test","pdus":[{bad},{}]}}"#, value(&good));
        let body = body.replace("NUMBER", number);
        // As servers do that tolerate such numbers: the body is sent as it is signed, keys in their order.
        let (status, answer) = peer::put_text(&here, &peer.server, "1", &body, &body).await;
        assert_eq!(status, OK, "{version} {number}: {answer}");
        assert_eq!(answer["pdus"][good.event_id().as_str()], json!({}), "{version} {number}: {answer}");
        let other = body.replace(number, "2.25");
        let (status, _) = peer::put_text(&here, &peer.server, "2", &other, &body).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "what was signed has other numbers");
    }
}

#[tokio::test]
async fn a_transaction_that_comes_again_is_answered_and_not_done_again() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let (one, two) = (next(&mut far, "one").await, next(&mut far, "two").await);
    let first = send(&here, &peer, "same", &[value(&one)]).await;
    let again = send(&here, &peer, "same", &[value(&two)]).await;
    assert_eq!(first, again);
    assert!(!knows(&far, two.event_id()).await);
    assert_eq!(send(&here, &peer, "other", &[value(&two)]).await[two.event_id().as_str()], json!({}));
    // After a restart it is still known.
    let started = world.server_on(here.parts.storage.clone(), "hs.test", 1, Vec::new()).await;
    let three = next(&mut far, "three").await;
    assert_eq!(send(&started, &peer, "same", &[value(&three)]).await, first);
}

#[tokio::test]
async fn servers_that_the_acl_names_and_rooms_without_local_users_are_left_alone() {
    let world = World::new();
    let (here, peer) = pair(&world).await;
    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let acl = json!({ "allow": ["*"], "deny": ["B.*"], "allow_ip_literals": true });
    far.set("m.room.server_acl", "", acl).await;
    let denied = next(&mut far, "denied").await;
    let pdus = send(&here, &peer, "1", &[value(&denied)]).await;
    assert!(pdus[denied.event_id().as_str()]["error"].as_str().expect("an error").contains("ACL"), "{pdus}");
    assert!(!knows(&far, denied.event_id()).await);
    far.set("m.room.server_acl", "", json!({ "allow": ["*"], "deny": [] })).await;
    let allowed = next(&mut far, "allowed").await;
    assert_eq!(send(&here, &peer, "allowed", &[value(&allowed)]).await[allowed.event_id().as_str()], json!({}));

    let mut far = Far::joined(&here, &peer.server, "11", "shared").await;
    let alice = far.alice.clone();
    far.set("m.room.member", alice.as_str(), json!({ "membership": "leave" })).await;
    let unheard = next(&mut far, "unheard").await;
    let pdus = send(&here, &peer, "2", &[value(&unheard)]).await;
    assert_ne!(pdus[unheard.event_id().as_str()], json!({}), "{pdus}");
}

#[tokio::test]
async fn what_this_server_signed_with_an_earlier_key_is_good() {
    let world = World::new();
    let (before, peer) = pair(&world).await;
    let far = Far::joined(&before, &peer.server, "11", "shared").await;
    let alice: &UserId = &far.alice;
    let old = far.make(alice, "m.room.message", None, &json!({ "body": "by the old key" })).await;
    let key = before.keys.current();
    let expired = |millis| federation_client::OldKey {
        id: key.id().clone(),
        public: key.public(),
        expired: primitives::UnixMillis(millis),
    };
    for (expired, good) in [(expired(1_600_000_000_000), false), (expired(1_800_000_000_000), true)] {
        let now = world.server_on(before.parts.storage.clone(), "hs.test", 9, vec![expired]).await;
        let room = now.parts.rooms.room(far.id()).await.expect("known");
        let remote = now.parts.rooms.remote().expect("federation");
        let received = room.receive(vec![Incoming::new(old.json())], remote).await.expect("received");
        assert_eq!(matches!(received[0], rooms::Received::Stored(..)), good, "{received:?}");
    }
}
