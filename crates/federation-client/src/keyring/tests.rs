//! What the ring asks, believes and keeps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use primitives::{Clock, ManualClock, Random, ServerKey, SharedClock, UnixMillis, canonical};
use ruma::{OwnedServerName, OwnedServerSigningKeyId, canonical_json::CanonicalJsonObject, server_name};
use serde_json::{Value, json};
use storage::Storage;

use super::*;
use crate::{ClientOptions, FakeServers, FederationClient, OldKey, OwnKeys, Pauses};

const START: UnixMillis = UnixMillis(1_700_000_000_000);

struct World {
    servers: FakeServers,
    clock: Arc<ManualClock>,
    storage: Storage,
}

fn own_keys(name: &str, seed: u8, old: Vec<OldKey>) -> OwnKeys {
    let key = ServerKey::new(&format!("k{seed}"), [seed; 32]).expect("a key");
    OwnKeys::new(OwnedServerName::try_from(name).expect("a name"), Arc::new(key), old)
}

fn id(id: &str) -> OwnedServerSigningKeyId {
    id.try_into().expect("a key id")
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::new(START);
        let shared: SharedClock = clock.clone();
        Self { servers: FakeServers::default(), storage: Storage::memory(&shared, &Random::seeded(1)), clock }
    }

    fn ring(&self, notaries: &[&str]) -> KeyRing {
        self.ring_denying(notaries, &[])
    }

    fn ring_denying(&self, notaries: &[&str], denied: &[[u8; 32]]) -> KeyRing {
        let options = ClientOptions {
            answer_max_bytes: 1 << 20,
            timeout: Duration::from_secs(30),
            state_answer_max_bytes: 64 << 20,
            join_timeout: Duration::from_mins(2),
            pauses: Pauses { min: Duration::from_mins(1), max: Duration::from_hours(1) },
        };
        let old = OldKey { id: id("ed25519:before"), public: [9; 32], expired: UnixMillis(500) };
        let own = Arc::new(own_keys("hs.test", 1, vec![old]));
        let (servers, random) = (Arc::new(self.servers.clone()), Random::seeded(1));
        let client = FederationClient::new(own, servers, self.clock.clone(), random, options);
        let notaries = notaries.iter().map(|name| OwnedServerName::try_from(*name).expect("a name")).collect();
        let denied = denied.iter().copied().collect();
        KeyRing::denying(client, self.storage.clone(), self.clock.clone(), notaries, denied)
    }

    /// Has a server of this name answer with this document.
    fn publish(&self, name: &str, document: &CanonicalJsonObject) {
        let body = canonical::to_bytes(document);
        let answer = move |_| {
            let body = body.clone();
            async { response(StatusCode::OK, body) }
        };
        self.servers.serve(name.try_into().expect("a name"), answer);
    }

    fn asked(&self) -> usize {
        self.servers.asked().len()
    }
}

/// A document with some fields changed, signed after that by the key of this seed.
fn document(name: &str, seed: u8, changes: Value) -> CanonicalJsonObject {
    let keys = own_keys(name, seed, Vec::new());
    let mut document = serde_json::to_value(keys.document(START)).expect("JSON");
    let fields = document.as_object_mut().expect("an object");
    fields.remove("signatures");
    let Value::Object(changes) = changes else { panic!("changes are fields") };
    fields.extend(changes);
    let mut document = canonical::parse_object(document.to_string().as_bytes()).expect("canonical");
    keys.sign(&mut document);
    document
}

#[tokio::test]
async fn many_who_wait_cause_one_request() {
    let world = World::new();
    let ring = world.ring(&[]);
    let (gate, count) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let body = canonical::to_bytes(&own_keys("b.test", 2, Vec::new()).document(START));
    let (opened, counted) = (gate.clone(), count.clone());
    world.servers.serve("b.test".try_into().expect("a name"), move |_| {
        let (gate, body) = (opened.clone(), body.clone());
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let _open = gate.acquire().await.expect("open");
            response(StatusCode::OK, body)
        }
    });
    let wanted = id("ed25519:k2");
    let waiting =
        futures_util::future::join_all((0..50).map(|_| ring.key(server_name!("b.test"), &wanted, ValidAt::Now)));
    let open = async {
        tokio::task::yield_now().await;
        gate.add_permits(1);
    };
    let (keys, ()) = tokio::join!(waiting, open);
    let public = ServerKey::new("k2", [2; 32]).expect("a key").public();
    assert!(keys.into_iter().all(|key| key.expect("a key") == public));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // Another ring on the same store, as after a restart, asks nobody.
    let key = world.ring(&[]).key(server_name!("b.test"), &wanted, ValidAt::Now).await.expect("kept");
    assert_eq!((key, count.load(Ordering::SeqCst)), (public, 1));
}

#[tokio::test]
async fn a_key_is_relied_on_for_seven_days_at_most_and_an_expired_one_only_for_what_came_before() {
    let world = World::new();
    let ring = world.ring(&[]);
    let b = server_name!("b.test");
    let old = json!({ "ed25519:old": { "key": "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk", "expired_ts": 5_000 } });
    world.publish("b.test", &document("b.test", 2, json!({ "valid_until_ts": 1_u64 << 50, "old_verify_keys": old })));
    let (current, expired) = (id("ed25519:k2"), id("ed25519:old"));
    assert!(ring.key(b, &current, ValidAt::Now).await.is_ok());
    assert_eq!(ring.key(b, &expired, ValidAt::Time(UnixMillis(5_000))).await.expect("valid then"), [9; 32]);
    assert_eq!(ring.key(b, &expired, ValidAt::Anytime).await.expect("valid then"), [9; 32]);
    for at in [ValidAt::Now, ValidAt::Time(UnixMillis(5_001))] {
        assert!(matches!(ring.key(b, &expired, at).await, Err(KeyError::NotValid)), "{at:?}");
    }
    let week = START.plus(Duration::from_hours(7 * 24));
    assert!(ring.key(b, &current, ValidAt::Time(week)).await.is_ok());
    assert!(ring.key(b, &current, ValidAt::Time(UnixMillis(week.0 + 1))).await.is_err());
    assert_eq!(world.asked(), 1, "nothing new is expected within a minute");
    // After the seven days it is asked for again, and if the server is gone the key is not relied on.
    world.clock.advance(Duration::from_hours(7 * 24 + 1));
    world.servers.remove(&b.to_owned());
    assert!(matches!(ring.key(b, &current, ValidAt::Now).await, Err(KeyError::Unavailable(_))));
    assert!(matches!(ring.key(b, &current, ValidAt::Now).await, Err(KeyError::AskedLately)));
    assert!(ring.key(b, &current, ValidAt::Time(START)).await.is_ok(), "for old events it still is");
    assert_eq!(world.asked(), 2);
}

#[tokio::test]
async fn a_failing_server_is_asked_ever_more_rarely() {
    let world = World::new();
    let ring = world.ring(&[]);
    let (key, mut asked_after) = (id("ed25519:k2"), Vec::new());
    for second in 0..1_500 {
        let before = world.asked();
        assert!(ring.key(server_name!("gone.test"), &key, ValidAt::Now).await.is_err());
        if world.asked() > before {
            asked_after.push(second);
        }
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(asked_after, [0, 10, 30, 70, 150, 310, 630, 1_230]);
}

#[test]
fn documents_that_are_not_the_servers_own_are_refused() {
    let check = |document: CanonicalJsonObject| KeyDocument::check(document, server_name!("b.test")).map(drop);
    assert_eq!(check(document("b.test", 2, json!({}))), Ok(()));
    assert_eq!(check(document("c.test", 2, json!({}))), Err(DocumentError::OtherServer));
    let mut unsigned = document("b.test", 2, json!({}));
    unsigned.remove("signatures");
    assert_eq!(check(unsigned), Err(DocumentError::NotSigned));
    let mut changed = document("b.test", 2, json!({}));
    changed.insert("more".to_owned(), "words".into());
    assert_eq!(check(changed), Err(DocumentError::NotSigned));
    // Signed, but with a key that isn't listed.
    let listed = json!({ "ed25519:k3": { "key": ServerKey::new("k3", [3; 32]).expect("a key").public_base64() } });
    assert_eq!(check(document("b.test", 2, json!({ "verify_keys": listed }))), Err(DocumentError::NotSigned));
    for (field, value) in [
        ("valid_until_ts", json!(-1)),
        ("valid_until_ts", json!("soon")),
        ("verify_keys", json!([])),
        ("verify_keys", json!({ "ed25519:k2": { "key": "%%%" } })),
        ("verify_keys", json!({ "ed25519:k2": { "key": "AAAA" } })),
        ("old_verify_keys", json!({ "ed25519:o": { "key": "AAAA", "expired_ts": 1 } })),
        ("old_verify_keys", json!("none")),
    ] {
        let refused = check(document("b.test", 2, json!({ field: value })));
        assert!(matches!(refused, Err(DocumentError::Field(_))), "{field} {value}: {refused:?}");
    }
    let public = ServerKey::new("k2", [2; 32]).expect("a key").public_base64();
    let many: serde_json::Map<_, _> =
        (0..101).map(|n| (format!("ed25519:o{n}"), json!({ "key": public, "expired_ts": 1 }))).collect();
    assert_eq!(check(document("b.test", 2, json!({ "old_verify_keys": many }))), Err(DocumentError::TooManyKeys));
}

#[tokio::test]
async fn a_notary_is_believed_only_with_its_signature_and_the_servers_own() {
    let wanted = id("ed25519:k2");
    for (case, signer, believed) in
        [("vouched for", Some(3), true), ("not vouched for", None, false), ("forged", Some(4), false)]
    {
        let world = World::new();
        let mut vouched = document("b.test", 2, json!({}));
        if let Some(seed) = signer {
            own_keys("notary.test", seed, Vec::new()).sign(&mut vouched);
        }
        let own = canonical::to_bytes(&document("notary.test", 3, json!({})));
        let found =
            serde_json::to_vec(&json!({ "server_keys": [document("c.test", 5, json!({})), vouched] })).expect("JSON");
        world.servers.serve("notary.test".try_into().expect("a name"), move |request| {
            let body = if request.uri().path().ends_with("/query") { found.clone() } else { own.clone() };
            async { response(StatusCode::OK, body) }
        });
        let found = world.ring(&["notary.test"]).key(server_name!("b.test"), &wanted, ValidAt::Now).await;
        assert_eq!(found.is_ok(), believed, "{case}: {found:?}");
    }
}

#[tokio::test]
async fn the_servers_own_keys_are_known_without_asking() {
    let world = World::new();
    let ring = world.ring(&[]);
    let hs = server_name!("hs.test");
    assert!(ring.key(hs, &id("ed25519:k1"), ValidAt::Now).await.is_ok());
    assert!(ring.key(hs, &id("ed25519:before"), ValidAt::Time(UnixMillis(500))).await.is_ok());
    assert!(ring.key(hs, &id("ed25519:before"), ValidAt::Now).await.is_err());
    assert!(ring.key(hs, &id("ed25519:other"), ValidAt::Anytime).await.is_err());
    assert_eq!((world.asked(), world.clock.now()), (0, START));
}

#[tokio::test]
async fn a_denied_key_signs_nothing_whether_it_is_known_already_or_not() {
    let world = World::new();
    world.publish("b.test", &document("b.test", 2, json!({})));
    let wanted = id("ed25519:k2");
    let server = server_name!("b.test");
    let public = world.ring(&[]).key(server, &wanted, ValidAt::Now).await.expect("a key");
    let denying = world.ring_denying(&[], &[public]);
    for at in [ValidAt::Now, ValidAt::Time(START), ValidAt::Anytime] {
        assert!(denying.key(server, &wanted, at).await.is_err(), "{at:?}");
    }
    // Nor does a notary vouch with it.
    let other = World::new();
    other.publish("n.test", &document("n.test", 2, json!({})));
    let denying = other.ring_denying(&["n.test"], &[public]);
    let refused = denying.key(server_name!("gone.test"), &id("ed25519:k3"), ValidAt::Now).await;
    assert!(matches!(refused, Err(KeyError::Unavailable(_))), "{refused:?}");
    assert!(other.servers.asked().iter().all(|(_, path)| !path.contains("/query")), "it is not even asked");
}
