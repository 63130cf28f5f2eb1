//! Who somebody is: requests in others' names, keys that are none.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use primitives::Clock;
use ruma::{ServerName, server_name};
use serde_json::{Value, json};
use testkit::hostile::{Answer, Draft, forge, signed};

use super::stage::{MALLORY, Stage};

const PATH: &str = "/_matrix/federation/v1/query/profile?user_id=@alice:hs.test";

fn get(path: &str) -> Request<Bytes> {
    Request::get(path).body(Bytes::new()).expect("a request")
}

impl Stage {
    /// Asks with a signature by the peer's key that claims these.
    async fn claim(&self, origin: &ServerName, destination: &ServerName) -> Answer {
        let header = signed(&get(PATH), origin, destination, self.evil.keys.current()).to_string();
        self.evil.ask_claiming(&self.here.name, get(PATH), Some(&header)).await
    }

    /// The document of keys that the peer publishes, with other fields in it, signed.
    fn key_document(&self, fields: &Value) -> Value {
        let mut document = serde_json::to_value(self.evil.keys.document(self.world.clock.now())).expect("JSON");
        for (name, value) in fields.as_object().expect("an object") {
            document[name] = value.clone();
        }
        document.as_object_mut().expect("an object").remove("signatures");
        let mut object = super::stage::object(&document);
        self.evil.keys.sign(&mut object);
        serde_json::to_value(object).expect("JSON")
    }
}

#[tokio::test]
async fn a_request_in_anothers_name_is_refused() {
    let stage = Stage::new("12").await;
    let _friend = stage.world.server("friend.test", 3).await;
    let (hs, evil) = (server_name!("hs.test"), server_name!("evil.test"));
    assert_eq!(stage.claim(evil, hs).await.status, StatusCode::OK);
    for (case, origin, destination) in [
        ("another server", server_name!("friend.test"), hs),
        ("the server itself", hs, hs),
        ("a server that doesn't exist", server_name!("nobody.test"), hs),
        ("its own name with a port", server_name!("evil.test:443"), hs),
        ("for another server", evil, server_name!("friend.test")),
    ] {
        let answer = stage.claim(origin, destination).await;
        assert_eq!((answer.status, answer.errcode()), (StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED"), "{case}");
    }
    assert_eq!(stage.evil.ask_claiming(hs, get(PATH), None).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_was_signed_for_one_request_opens_no_other() {
    let stage = Stage::new("12").await;
    let (hs, evil) = (server_name!("hs.test"), server_name!("evil.test"));
    let header = signed(&get(PATH), evil, hs, stage.evil.keys.current()).to_string();
    for other in [
        "/_matrix/federation/v1/query/profile?user_id=@bob:hs.test",
        "/_matrix/federation/v1/query/profile?user_id=@alice:hs.test&field=displayname",
    ] {
        let answer = stage.evil.ask_claiming(hs, get(other), Some(&header)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{other}");
    }
    let with_body = Request::get(PATH).body(Bytes::from_static(b"{\"a\":1}")).expect("a request");
    assert_eq!(stage.evil.ask_claiming(hs, with_body, Some(&header)).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn documents_of_keys_that_lie_give_no_keys() {
    let hs = server_name!("hs.test");
    for (case, fields) in [
        ("another server's", json!({ "server_name": "friend.test" })),
        ("run out", json!({ "valid_until_ts": 1_600_000_000_000_u64 })),
        ("a key that is none", json!({ "verify_keys": { "ed25519:k66": { "key": "AAAA" } } })),
        ("no keys", json!({ "verify_keys": {} })),
        (
            "the key is an old one",
            json!({ "verify_keys": {}, "old_verify_keys": { "ed25519:k66": { "key": "x", "expired_ts": 5 } } }),
        ),
        ("keys of the wrong shape", json!({ "verify_keys": [[["ed25519:k66"]]] })),
    ] {
        let stage = Stage::without_mallory("12").await;
        let document = stage.key_document(&fields);
        stage.evil.scripts.json("/_matrix/key/v2/server", StatusCode::OK, &document);
        let answer = stage.claim(&stage.evil.name, hs).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}");
        stage.say("the room goes on").await;
    }
}

#[tokio::test]
async fn an_unsigned_or_endless_document_of_keys_is_none() {
    let hs = server_name!("hs.test");
    let stage = Stage::without_mallory("12").await;
    let mut unsigned = stage.key_document(&json!({}));
    unsigned["signatures"] = json!({ "evil.test": { "ed25519:k66": "A".repeat(86) } });
    let endless = json!({ "verify_keys": {}, "padding": "x".repeat(1 << 20) });
    for document in [unsigned, endless, json!([]), json!("no")] {
        let stage = Stage::without_mallory("12").await;
        stage.evil.scripts.json("/_matrix/key/v2/server", StatusCode::OK, &document);
        assert_eq!(stage.claim(&stage.evil.name, hs).await.status, StatusCode::UNAUTHORIZED);
    }
    stage.evil.scripts.bytes("/_matrix/key/v2/server", StatusCode::OK, vec![b'['; 60_000]);
    assert_eq!(stage.claim(&stage.evil.name, hs).await.status, StatusCode::UNAUTHORIZED);
    // However often it tries: it isn't asked each time.
    let asked = stage.questions();
    for _ in 0..50 {
        assert_eq!(stage.claim(&stage.evil.name, hs).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(stage.questions(), asked);
}

#[tokio::test]
async fn a_key_document_for_ever_is_believed_for_a_week() {
    let stage = Stage::without_mallory("12").await;
    let hs = server_name!("hs.test");
    let document = stage.key_document(&json!({ "valid_until_ts": 9_007_199_254_740_991_u64 }));
    stage.evil.scripts.json("/_matrix/key/v2/server", StatusCode::OK, &document);
    assert_eq!(stage.claim(&stage.evil.name, hs).await.status, StatusCode::OK);
    stage.evil.scripts.json("/_matrix/key/v2/server", StatusCode::NOT_FOUND, &json!({}));
    stage.world.clock.advance(Duration::from_hours(24 * 6));
    assert_eq!(stage.claim(&stage.evil.name, hs).await.status, StatusCode::OK);
    stage.world.clock.advance(Duration::from_hours(24 * 2));
    assert_eq!(stage.claim(&stage.evil.name, hs).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn events_signed_by_a_key_after_it_expired_are_none() {
    let stage = Stage::new("12").await;
    let expired = stage.world.clock.now();
    let new = std::sync::Arc::new(primitives::ServerKey::new("new", [99; 32]).expect("a key"));
    let old = federation_client::OldKey {
        id: stage.evil.keys.current().id().clone(),
        public: stage.evil.keys.current().public(),
        expired,
    };
    let keys = federation_client::OwnKeys::new(stage.evil.name.clone(), new.clone(), vec![old]);
    stage.world.clock.advance(Duration::from_hours(25));
    let document = serde_json::to_value(keys.document(stage.world.clock.now())).expect("JSON");
    stage.evil.scripts.json("/_matrix/key/v2/server", StatusCode::OK, &document);
    let held = stage.look().await;
    let draft = testkit::hostile::raw_draft(&held, stage.world.clock.now().0, &Draft::message(MALLORY, "old key"));
    let by_old_key = forge(held.version, draft.clone(), &stage.evil.name, stage.evil.keys.current());
    let by_new_key = forge(held.version, draft, &stage.evil.name, &new);
    let before = stage.look().await;
    let incoming = |event: &testkit::hostile::Forged| vec![rooms::Incoming::new(event.json.to_string())];
    let remote = stage.here.parts.rooms.remote().expect("federation");
    let received = stage.room.receive(incoming(&by_old_key), remote).await.expect("received");
    assert!(matches!(received[..], [rooms::Received::Invalid(_)]), "{received:?}");
    stage.unchanged(&before, "by an expired key").await;
    let received = stage.room.receive(incoming(&by_new_key), remote).await.expect("received");
    assert!(matches!(received[..], [rooms::Received::Stored(..)]), "{received:?}");
}
