//! Keys of devices and users.

use http::Method;
use primitives::ServerKey;
use ruma::signatures::{KeyPair, to_canonical_json_string_for_signing};
use serde_json::{Value, json};

use crate::support::{Site, User};

/// A key made from a number.
pub(crate) fn signer(seed: u8) -> ServerKey {
    ServerKey::new("1", [seed; 32]).expect("a key")
}

/// The object, signed by a user with a key of that name.
pub(crate) fn signed_by(mut object: Value, user: &User<'_>, name: &str, key: &ServerKey) -> Value {
    let canonical = serde_json::from_value(object.clone()).expect("canonical");
    let text = to_canonical_json_string_for_signing(&canonical).expect("canonical");
    object["signatures"][&user.id][format!("ed25519:{name}")] = json!(key.sign(text.as_bytes()).base64());
    object
}

/// The identity keys of a user's device.
pub(crate) fn identity(user: &User<'_>, key: &ServerKey) -> Value {
    let (device, public) = (&user.device, key.public_base64());
    let keys = json!({
        "user_id": user.id,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): public, format!("curve25519:{device}"): public },
    });
    signed_by(keys, user, device, key)
}

/// Has a device upload its keys.
pub(crate) async fn with_keys(user: &User<'_>, seed: u8) {
    user.post("v3/keys/upload", json!({ "device_keys": identity(user, &signer(seed)) })).await.ok();
}

pub(crate) fn master_key(user: &User<'_>, key: &ServerKey) -> Value {
    let public = key.public_base64();
    json!({ "user_id": user.id, "usage": ["master"], "keys": { format!("ed25519:{public}"): public } })
}

fn one_time(user: &User<'_>, id: &str, seed: u8) -> Value {
    let key = signed_by(json!({ "key": signer(seed).public_base64() }), user, &user.device, &signer(1));
    json!({ format!("signed_curve25519:{id}"): key })
}

#[tokio::test]
async fn keys_are_uploaded_counted_claimed_and_asked_for() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let none = alice.sync(None).await;
    assert_eq!(none["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert_eq!(none["device_unused_fallback_key_types"], json!([]));
    let (device_keys, one_time_keys) = (identity(&alice, &signer(1)), one_time(&alice, "a", 2));
    let upload = json!({
        "device_keys": device_keys,
        "one_time_keys": one_time_keys,
        "fallback_keys": one_time(&alice, "f", 3),
    });
    for _ in 0..2 {
        let answer = alice.post("v3/keys/upload", upload.clone()).await.ok();
        assert_eq!(answer, json!({ "one_time_key_counts": { "signed_curve25519": 1 } }));
    }
    let sync = alice.sync(None).await;
    assert_eq!(sync["device_one_time_keys_count"], json!({ "signed_curve25519": 1 }));
    assert_eq!(sync["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    let elsewhere = json!({ "@x:elsewhere": { "A": "signed_curve25519" } });
    let claim = json!({ "one_time_keys": { &alice.id: { &alice.device: "signed_curve25519" } } });
    let answer = bob.post("v3/keys/claim", claim.clone()).await.ok();
    assert_eq!(answer, json!({ "one_time_keys": { &alice.id: { &alice.device: one_time_keys } }, "failures": {} }));
    let answer = bob.post("v3/keys/claim", claim).await.ok();
    assert_eq!(answer["one_time_keys"][&alice.id][&alice.device], one_time(&alice, "f", 3));
    let answer = bob.post("v3/keys/claim", json!({ "one_time_keys": elsewhere })).await.ok();
    assert!(answer["failures"]["elsewhere"].is_object() && answer["one_time_keys"] == json!({}));
    let sync = alice.sync(None).await;
    assert_eq!(sync["device_one_time_keys_count"], json!({ "signed_curve25519": 0 }));
    assert_eq!(sync["device_unused_fallback_key_types"], json!([]));
    alice.put(&format!("v3/devices/{}", alice.device), json!({ "display_name": "phone" })).await.ok();
    let query = json!({ "device_keys": { &alice.id: [], &bob.id: [], "@no:hs.test": [], "@x:elsewhere": [] } });
    let answer = bob.post("v3/keys/query", query).await.ok();
    let mut shown = device_keys;
    shown["unsigned"] = json!({ "device_display_name": "phone" });
    assert_eq!(answer["device_keys"], json!({ &alice.id: { &alice.device: shown }, &bob.id: {} }));
    assert!(answer["failures"]["elsewhere"].is_object());
}

#[tokio::test]
async fn bad_keys_get_the_specifications_errors() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    let upload = async |body: Value| bob.post("v3/keys/upload", body).await;
    let bare = json!({ "user_id": bob.id, "device_id": bob.device });
    upload(json!({ "device_keys": bare })).await.refused(400, "M_BAD_JSON");
    upload(json!({ "device_keys": identity(&alice, &signer(1)) })).await.refused(400, "M_INVALID_PARAM");
    upload(json!({ "device_keys": 1 })).await.refused(400, "M_BAD_JSON");
    let wrong = signed_by(identity(&bob, &signer(1)), &bob, &bob.device, &signer(2));
    upload(json!({ "device_keys": wrong })).await.refused(400, "M_INVALID_SIGNATURE");
    upload(json!({ "one_time_keys": { "signed_curve25519": {} } })).await.refused(400, "M_BAD_JSON");
    upload(json!({ "one_time_keys": one_time(&bob, "a", 1) })).await.ok();
    upload(json!({ "one_time_keys": one_time(&bob, "a", 2) })).await.refused(400, "M_UNKNOWN");
    let mut large = identity(&bob, &signer(1));
    large["x"] = json!("y".repeat(9_000));
    let large = signed_by(large, &bob, &bob.device, &signer(1));
    upload(json!({ "device_keys": large })).await.refused(413, "M_TOO_LARGE");
    let many: serde_json::Map<_, _> = (0..501).map(|n| (format!("x:{n}"), json!("key"))).collect();
    upload(json!({ "one_time_keys": many })).await.refused(400, "M_RESOURCE_LIMIT_EXCEEDED");
    for query in [json!({ &bob.id: { "A": true } }), json!({ "nobody": [] }), json!([])] {
        bob.post("v3/keys/query", json!({ "device_keys": query })).await.refused(400, "M_BAD_JSON");
    }
    bob.post("v3/keys/claim", json!({ "one_time_keys": { &bob.id: { "A": 1 } } })).await.refused(400, "M_BAD_JSON");
    bob.post("v3/keys/claim", json!({})).await.refused(400, "M_MISSING_PARAM");
    bob.get("v3/keys/changes?from=x&to=y").await.refused(400, "M_INVALID_PARAM");
    bob.get("v3/keys/changes?to=y").await.refused(400, "M_MISSING_PARAM");
    site.raw(Method::POST, "/_matrix/client/v3/keys/query", None, "{}").await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn the_first_cross_signing_keys_need_no_password_and_others_do() {
    let site = Site::new().await;
    let alice = site.user("alice").await;
    let (first, second) = (master_key(&alice, &signer(1)), master_key(&alice, &signer(2)));
    let upload = async |body: Value| alice.post("v3/keys/device_signing/upload", body).await;
    let unsigned = json!({ "self_signing_key": first });
    upload(unsigned).await.refused(400, "M_BAD_JSON");
    upload(json!({})).await.refused(400, "M_MISSING_PARAM");
    for _ in 0..2 {
        assert_eq!(upload(json!({ "master_key": first })).await.ok(), json!({}));
    }
    let open = upload(json!({ "master_key": second })).await;
    assert_eq!((open.status.as_u16(), open.body["flows"].is_array()), (401, true));
    let auth = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": alice.id },
        "password": "secret word",
        "session": open.body["session"],
    });
    // The session is for the keys that it was opened with.
    let third = master_key(&alice, &signer(3));
    upload(json!({ "master_key": third, "auth": auth })).await.refused(403, "M_FORBIDDEN");
    for _ in 0..2 {
        upload(json!({ "master_key": second, "auth": auth })).await.ok();
    }
    let found = alice.post("v3/keys/query", json!({ "device_keys": { &alice.id: [] } })).await.ok();
    assert_eq!(found["master_keys"][&alice.id], second);
}

#[tokio::test]
async fn each_signature_is_judged_by_itself() {
    let site = Site::new().await;
    let (alice, bob) = (site.user("alice").await, site.user("bob").await);
    with_keys(&alice, 1).await;
    let master = master_key(&alice, &signer(5));
    alice.post("v3/keys/device_signing/upload", json!({ "master_key": master })).await.ok();
    let public = signer(5).public_base64();
    let good = signed_by(master.clone(), &alice, &alice.device, &signer(1));
    let bad = signed_by(master.clone(), &bob, "x", &signer(9));
    let body = json!({ &alice.id: { &public: good, "NO": good }, &bob.id: { "NO": bad } });
    let failures = alice.post("v3/keys/signatures/upload", body).await.ok()["failures"].clone();
    assert!(failures[&alice.id][&public].is_null());
    assert_eq!(failures[&alice.id]["NO"]["errcode"], "M_NOT_FOUND");
    assert_eq!(failures[&bob.id]["NO"]["errcode"], "M_NOT_FOUND");
    let forged = signed_by(master, &alice, &alice.device, &signer(9));
    let body = json!({ &alice.id: { &public: forged } });
    let failures = alice.post("v3/keys/signatures/upload", body).await.ok()["failures"].clone();
    assert_eq!(failures[&alice.id][&public]["errcode"], "M_INVALID_SIGNATURE");
    let found = bob.post("v3/keys/query", json!({ "device_keys": { &alice.id: [] } })).await.ok();
    assert_eq!(found["master_keys"][&alice.id], good);
}
