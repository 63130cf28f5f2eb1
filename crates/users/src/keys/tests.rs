//! Keys on a store in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use primitives::{ManualClock, Random, ServerKey, SharedClock, StreamPosition, UnixMillis};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, signatures::KeyPair, user_id};
use serde_json::{Value, json};
use storage::{
    Direction, Fault, Faults, KeyRange, MemoryDisk, Options as StoreOptions, Step, Storage,
    schema::{
        jobs::{JobKind, Jobs},
        keys::{DeviceKeyStates, DeviceKeys, OneTimeKeyIds, OneTimeKeys},
        rooms::{UserLog, UserLogEntry},
    },
};

use super::*;
use crate::{
    Options, Requester, StoreError, Users,
    testing::{World, device, options},
};

fn signer(seed: u8) -> ServerKey {
    ServerKey::new("1", [seed; 32]).expect("a key")
}

fn object(value: Value) -> CanonicalJsonObject {
    serde_json::from_value(value).expect("canonical")
}

/// The object, signed by a user with a key of that name.
fn signed_by(mut object: CanonicalJsonObject, user: &str, name: &str, key: &ServerKey) -> CanonicalJsonObject {
    let signature = key.sign(signed::signed_part(&object).as_bytes()).base64();
    signed::add_signatures(&mut object, user, [(format!("ed25519:{name}").as_str(), signature.as_str())]);
    object
}

fn identity(who: &Requester, key: &ServerKey) -> CanonicalJsonObject {
    let (user, device) = (who.user_id.as_str(), who.device_id.as_ref().expect("a device").as_str());
    let keys = object(json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
        "keys": { format!("ed25519:{device}"): key.public_base64(), format!("curve25519:{device}"): key.public_base64() },
    }));
    signed_by(keys, user, device, key)
}

fn cross_signing_key(who: &Requester, usage: &str, key: &ServerKey) -> CanonicalJsonObject {
    let public = key.public_base64();
    object(json!({ "user_id": who.user_id, "usage": [usage], "keys": { format!("ed25519:{public}"): public } }))
}

fn one_time(name: &str, seed: u8) -> (String, CanonicalJsonValue) {
    one_time_by(&signer(1), name, seed)
}

/// One that a key of Bob's device A has signed.
fn one_time_by(key: &ServerKey, name: &str, seed: u8) -> (String, CanonicalJsonValue) {
    let key = signed_by(object(json!({ "key": signer(seed).public_base64() })), "@bob:hs1", "A", key);
    (format!("signed_curve25519:{name}"), CanonicalJsonValue::Object(key))
}

fn one_time_keys(names: impl IntoIterator<Item = u8>) -> KeyUpload {
    let keys = names.into_iter().map(|name| one_time(&format!("{name:03}"), name)).collect();
    KeyUpload { one_time_keys: keys, ..KeyUpload::default() }
}

async fn requester(users: &Users, world_login: &str) -> Requester {
    users.authenticate(world_login).await.expect("let in")
}

/// Bob on his device A.
async fn bob(world: &World) -> Requester {
    world.user("bob").await;
    on_device(world, "A").await
}

async fn on_device(world: &World, id: &str) -> Requester {
    let session = world.login("bob", "secret", device(id)).await.expect("logged in").session;
    requester(&world.users, &session.tokens.access_token).await
}

fn claims(who: &Requester) -> Claims {
    let device = who.device_id.clone().expect("a device");
    [(who.user_id.clone(), BTreeMap::from([(device, "signed_curve25519".to_owned())]))].into()
}

/// Claims one key; its id.
async fn claim(users: &Users, who: &Requester) -> Option<String> {
    let mut issued = users.keys().claim(claims(who)).await.expect("claimed");
    let mut devices = issued.remove(&who.user_id)?;
    devices.pop_first()?.1.pop_first().map(|(id, _)| id)
}

async fn left(world: &World, who: &Requester) -> KeysLeft {
    let device = who.device_id.as_deref().expect("a device");
    Keys::left(&world.storage.view(), who.user_nid, device).await.expect("read")
}

fn count(left: &KeysLeft) -> u64 {
    left.one_time["signed_curve25519"]
}

#[tokio::test]
async fn keys_are_issued_in_the_order_of_upload_and_then_the_fallback_key() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let order = [7_u8, 3, 9, 1];
    for name in order {
        keys.upload(&bob, one_time_keys([name])).await.expect("uploaded");
    }
    let fallback = KeyUpload { fallback_keys: [one_time("F", 50)].into(), ..KeyUpload::default() };
    keys.upload(&bob, fallback.clone()).await.expect("uploaded");
    assert_eq!((count(&left(&world, &bob).await), left(&world, &bob).await.unused_fallback.len()), (4, 1));
    for name in order {
        assert_eq!(claim(&world.users, &bob).await, Some(format!("signed_curve25519:{name:03}")));
    }
    assert_eq!(left(&world, &bob).await.unused_fallback, ["signed_curve25519"]);
    for _ in 0..2 {
        assert_eq!(claim(&world.users, &bob).await.as_deref(), Some("signed_curve25519:F"));
        assert!(left(&world, &bob).await.unused_fallback.is_empty());
    }
    // The same again is still used; another is not.
    keys.upload(&bob, fallback).await.expect("uploaded");
    assert!(left(&world, &bob).await.unused_fallback.is_empty());
    let other = KeyUpload { fallback_keys: [one_time("G", 51)].into(), ..KeyUpload::default() };
    keys.upload(&bob, other).await.expect("uploaded");
    assert_eq!(left(&world, &bob).await.unused_fallback, ["signed_curve25519"]);
    assert_eq!(claim(&world.users, &bob).await.as_deref(), Some("signed_curve25519:G"));
}

#[tokio::test]
async fn claims_at_once_get_each_key_once() {
    let world = World::new().await;
    let bob = bob(&world).await;
    world.users.keys().upload(&bob, one_time_keys(0..60)).await.expect("uploaded");
    let issued = futures_util::future::join_all((0..80).map(|_| claim(&world.users, &bob))).await;
    let keys: Vec<_> = issued.into_iter().flatten().collect();
    assert_eq!(keys.len(), 60);
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 60);
    assert_eq!(count(&left(&world, &bob).await), 0);
}

#[tokio::test]
async fn unknown_users_devices_and_algorithms_are_left_out() {
    let world = World::new().await;
    let bob = bob(&world).await;
    world.users.keys().upload(&bob, one_time_keys([1])).await.expect("uploaded");
    let mut asked = Claims::new();
    asked.entry(bob.user_id.clone()).or_default().insert("NO".into(), "signed_curve25519".to_owned());
    asked.entry(bob.user_id.clone()).or_default().insert("A".into(), "curve25519".to_owned());
    asked.entry(user_id!("@nobody:hs1").to_owned()).or_default().insert("A".into(), "signed_curve25519".to_owned());
    assert!(world.users.keys().claim(asked).await.expect("answered").is_empty());
    assert_eq!(count(&left(&world, &bob).await), 1);
}

#[tokio::test]
async fn an_upload_that_is_sent_again_changes_nothing_also_after_a_claim() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    keys.upload(&bob, one_time_keys([1, 2, 3])).await.expect("uploaded");
    let before = world.storage.position();
    assert_eq!(count(&keys.upload(&bob, one_time_keys([1, 2, 3])).await.expect("again")), 3);
    assert_eq!(world.storage.position(), before);
    assert_eq!(count(&keys.upload(&bob, one_time_keys([2, 3, 4])).await.expect("overlapping")), 4);
    let claimed = claim(&world.users, &bob).await.expect("a key");
    assert_eq!(count(&keys.upload(&bob, one_time_keys([1, 2, 3])).await.expect("again")), 3);
    for _ in 0..3 {
        assert_ne!(claim(&world.users, &bob).await.expect("a key"), claimed);
    }
    assert_eq!(claim(&world.users, &bob).await, None);
    let other = KeyUpload { one_time_keys: [one_time("001", 77)].into(), ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, other).await, Err(KeysError::OtherKey(id)) if id == "signed_curve25519:001"));
}

#[tokio::test]
async fn claimed_keys_are_forgotten_after_a_thousand() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    for round in 0..11_u32 {
        let named = (0..100_u8).map(|name| one_time(&format!("{round}-{name}"), name));
        keys.upload(&bob, KeyUpload { one_time_keys: named.collect(), ..KeyUpload::default() }).await.expect("taken");
        for _ in 0..100 {
            claim(&world.users, &bob).await.expect("a key");
        }
    }
    keys.upload(&bob, one_time_keys([1])).await.expect("uploaded");
    let range = KeyRange::prefix(&(bob.user_nid,));
    let ids = world.storage.view().scan_keys::<OneTimeKeyIds>(&range, 5_000, Direction::Forward).await.expect("read");
    assert_eq!(ids.keys.len(), 551);
    let state = world.storage.view().get::<DeviceKeyStates>(&(bob.user_nid, Text::new("A"))).await.expect("read");
    assert_eq!(state.expect("there").claimed, 550);
}

#[tokio::test]
async fn keys_that_are_not_the_devices_or_not_in_form_are_refused() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let good = identity(&bob, &signer(1));
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed.insert(name.to_owned(), serde_json::from_value(value).expect("canonical"));
        KeyUpload { device_keys: Some(changed), ..KeyUpload::default() }
    };
    for (name, value) in [("user_id", json!("@eve:hs1")), ("device_id", json!("B"))] {
        assert!(matches!(keys.upload(&bob, with(name, value)).await, Err(KeysError::Foreign(_))), "{name}");
    }
    let foreign = json!({ "ed25519:B": signer(1).public_base64() });
    assert!(matches!(keys.upload(&bob, with("keys", foreign)).await, Err(KeysError::Foreign(_))));
    for (name, value) in [
        ("user_id", json!(1)),
        ("algorithms", json!("x")),
        ("algorithms", json!([1])),
        ("keys", json!({})),
        ("keys", json!({ "ed25519:A": "not base64!" })),
        ("keys", json!({ "ed25519:A": format!("{}=", signer(1).public_base64()) })),
        ("signatures", json!(null)),
    ] {
        let refused = keys.upload(&bob, with(name, value)).await;
        assert!(matches!(refused, Err(KeysError::Malformed(_))), "{name}: {refused:?}");
    }
    let wrong = signed_by(good.clone(), "@bob:hs1", "A", &signer(2));
    let wrong = KeyUpload { device_keys: Some(wrong), ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, wrong).await, Err(KeysError::BadSignature(_))));
    let mut large = good.clone();
    large.insert("x".to_owned(), CanonicalJsonValue::String("y".repeat(9_000)));
    let large = signed_by(large, "@bob:hs1", "A", &signer(1));
    let large = KeyUpload { device_keys: Some(large), ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, large).await, Err(KeysError::TooLarge(8_192))));
    for (name, value) in [
        ("signed_curve25519", json!({ "key": signer(1).public_base64() })),
        (":a", json!(signer(1).public_base64())),
        ("curve25519:a", json!("short")),
        ("curve25519:a", json!(1)),
    ] {
        let key = (name.to_owned(), serde_json::from_value(value).expect("canonical"));
        let upload = KeyUpload { one_time_keys: [key].into(), ..KeyUpload::default() };
        assert!(matches!(keys.upload(&bob, upload).await, Err(KeysError::Malformed(_))), "{name}");
    }
    let unsigned = json!({ "key": signer(1).public_base64() });
    let unsigned = ("signed_curve25519:a".to_owned(), serde_json::from_value(unsigned).expect("canonical"));
    let upload = KeyUpload { one_time_keys: [unsigned].into(), ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, upload).await, Err(KeysError::BadSignature(_))));
    let two = KeyUpload { fallback_keys: [one_time("a", 1), one_time("b", 2)].into(), ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, two).await, Err(KeysError::Malformed(_))));
    assert_eq!(left(&world, &bob).await, KeysLeft::from(tables::DeviceKeyStateRow::default()));
}

#[tokio::test]
async fn a_one_time_key_that_the_device_has_not_signed_is_refused() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let by = |seed: u8| [one_time_by(&signer(seed), "x", seed)];
    let identity = Some(identity(&bob, &signer(1)));
    let with_identity =
        KeyUpload { device_keys: identity.clone(), one_time_keys: by(2).into(), ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, with_identity).await, Err(KeysError::BadSignature(_))));
    assert_eq!(count(&left(&world, &bob).await), 0);
    let good = KeyUpload { device_keys: identity, one_time_keys: by(1).into(), ..KeyUpload::default() };
    keys.upload(&bob, good).await.expect("its own");
    for wrong in [
        KeyUpload { one_time_keys: by(2).into(), ..KeyUpload::default() },
        KeyUpload { fallback_keys: by(2).into(), ..KeyUpload::default() },
    ] {
        assert!(matches!(keys.upload(&bob, wrong).await, Err(KeysError::BadSignature(_))));
    }
    assert_eq!(count(&left(&world, &bob).await), 1);
}

#[tokio::test]
async fn numbers_are_bounded() {
    let limits = KeyLimits { one_time_keys_max: 3, query_max_users: 1, claim_max_devices: 1, ..KeyLimits::default() };
    let world = World::with(Options { key_limits: limits, ..options() }).await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    assert!(matches!(keys.upload(&bob, one_time_keys(0..4)).await, Err(KeysError::TooMany(3))));
    keys.upload(&bob, one_time_keys(0..3)).await.expect("uploaded");
    let query: Query = ["@a:hs1", "@b:hs1"].map(|id| (OwnedUserId::try_from(id).expect("an id"), Vec::new())).into();
    assert!(matches!(keys.query(Asker::Server, &query).await, Err(KeysError::TooMuch(1))));
    let mut many = claims(&bob);
    many.entry(user_id!("@c:hs1").to_owned()).or_default().insert("A".into(), "x".to_owned());
    assert!(matches!(keys.claim(many).await, Err(KeysError::TooMuch(1))));
    let many = (0..9).map(|n| (format!("a{n}:x"), CanonicalJsonValue::String("x".to_owned()))).collect();
    let many = KeyUpload { one_time_keys: many, ..KeyUpload::default() };
    assert!(matches!(keys.upload(&bob, many).await, Err(KeysError::Malformed(_))));
}

/// The lines about lists in a user's log, and their positions.
async fn log(world: &World, who: &Requester) -> Vec<(StreamPosition, Option<String>)> {
    let range = KeyRange::prefix(&(who.user_nid,));
    let page = world.storage.view().scan::<UserLog>(&range, 100, Direction::Forward).await.expect("read");
    let rows = page.rows.into_iter();
    let told = rows.filter_map(|((_, position, _), entry)| match entry {
        UserLogEntry::DeviceList { user_id } => Some((position, user_id)),
        _ => None,
    });
    told.collect()
}

#[tokio::test]
async fn a_list_changes_with_keys_names_and_devices_and_with_nothing_else() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    assert!(log(&world, &bob).await.is_empty(), "a device without keys is in no list");
    let mut last = StreamPosition::ZERO;
    let mut changed = async || {
        let now = DeviceLists::last_change(&world.storage.view(), bob.user_nid).await.expect("read");
        let before = std::mem::replace(&mut last, now);
        assert_eq!(log(&world, &bob).await, [(now, None)]);
        now > before
    };
    let upload = KeyUpload { device_keys: Some(identity(&bob, &signer(1))), ..KeyUpload::default() };
    keys.upload(&bob, upload.clone()).await.expect("uploaded");
    assert!(changed().await);
    let id = storage::Key::to_bytes(&(bob.user_nid,)).into_parts().0;
    assert!(world.storage.view().contains::<Jobs>(&(JobKind::DEVICE_LIST, id)).await.expect("read"));
    world.users.device_lists().job_begun().await;
    keys.upload(&bob, upload).await.expect("the same");
    keys.upload(&bob, one_time_keys([1])).await.expect("uploaded");
    claim(&world.users, &bob).await.expect("a key");
    assert!(!changed().await);
    world.users.devices().rename(bob.user_nid, "A".into(), Some("phone")).await.expect("renamed");
    assert!(changed().await);
    world.users.devices().rename(bob.user_nid, "A".into(), Some("phone")).await.expect("the same");
    assert!(!changed().await);
    world.users.devices().delete(bob.user_nid, &["A".into()]).await.expect("deleted");
    assert!(changed().await);
    on_device(&world, "B").await;
    world.users.logout(bob.user_nid, "B".into()).await.expect("logged out");
    assert!(!changed().await);
}

#[tokio::test]
async fn a_device_takes_its_keys_along_in_one_batch() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let upload = KeyUpload { device_keys: Some(identity(&bob, &signer(1))), ..one_time_keys([1, 2]) };
    world.users.keys().upload(&bob, upload.clone()).await.expect("uploaded");
    let before = world.storage.position();
    world.users.logout(bob.user_nid, "A".into()).await.expect("logged out");
    assert_eq!(world.storage.position(), before.next());
    let view = world.storage.view();
    let range = KeyRange::prefix(&(bob.user_nid,));
    assert!(view.scan_keys::<DeviceKeys>(&range, 9, Direction::Forward).await.expect("read").keys.is_empty());
    assert!(view.scan_keys::<DeviceKeyStates>(&range, 9, Direction::Forward).await.expect("read").keys.is_empty());
    assert!(view.scan_keys::<OneTimeKeys>(&range, 9, Direction::Forward).await.expect("read").keys.is_empty());
    assert!(view.scan_keys::<OneTimeKeyIds>(&range, 9, Direction::Forward).await.expect("read").keys.is_empty());
    assert_eq!(claim(&world.users, &bob).await, None);
    assert!(matches!(world.users.keys().upload(&bob, upload).await, Err(KeysError::NoDevice)));
}

#[tokio::test]
async fn an_upload_and_a_deletion_at_once_leave_no_keys_without_a_device() {
    let world = World::new().await;
    world.user("bob").await;
    for round in 0..20 {
        let bob = on_device(&world, "A").await;
        let upload = KeyUpload { device_keys: Some(identity(&bob, &signer(1))), ..one_time_keys([round]) };
        let (uploaded, deleted) =
            tokio::join!(world.users.keys().upload(&bob, upload), world.users.logout(bob.user_nid, "A".into()));
        assert!(deleted.expect("deleted"));
        assert!(matches!(uploaded, Ok(_) | Err(KeysError::NoDevice)), "{uploaded:?}");
        assert_eq!(claim(&world.users, &bob).await, None);
    }
}

#[tokio::test]
async fn another_identity_on_a_device_takes_the_one_time_keys_of_the_old_one_away() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let upload = |seed, names: [u8; 2]| KeyUpload {
        device_keys: Some(identity(&bob, &signer(seed))),
        one_time_keys: names.map(|name| one_time_by(&signer(seed), &format!("{name:03}"), name)).into(),
        ..KeyUpload::default()
    };
    keys.upload(&bob, upload(1, [1, 2])).await.expect("uploaded");
    assert_eq!(count(&keys.upload(&bob, upload(2, [2, 3])).await.expect("uploaded")), 2);
    assert_eq!(claim(&world.users, &bob).await.as_deref(), Some("signed_curve25519:002"));
}

#[tokio::test]
async fn cross_signing_keys_are_replaced_only_by_who_has_authenticated() {
    use Authentication::{Interactive, Token};
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let [master, ssk, usk, other] = [11, 12, 13, 14].map(signer);
    let by_master = |usage, key: &ServerKey, by: &ServerKey| {
        Some(signed_by(cross_signing_key(&bob, usage, key), "@bob:hs1", &by.public_base64(), by))
    };
    let first = CrossSigningUpload {
        master: Some(cross_signing_key(&bob, "master", &master)),
        self_signing: by_master("self_signing", &ssk, &master),
        user_signing: by_master("user_signing", &usk, &master),
    };
    let put = async |upload: &CrossSigningUpload, how| keys.upload_cross_signing(&bob, upload, how).await;
    let alone = CrossSigningUpload { master: None, ..first.clone() };
    assert!(matches!(put(&alone, Token).await, Err(KeysError::NoMasterKey)));
    let wrong = CrossSigningUpload { self_signing: by_master("self_signing", &ssk, &other), ..first.clone() };
    assert!(matches!(put(&wrong, Token).await, Err(KeysError::BadSignature(_))));
    let wrong = CrossSigningUpload { master: Some(cross_signing_key(&bob, "self_signing", &master)), ..first.clone() };
    assert!(matches!(put(&wrong, Token).await, Err(KeysError::Malformed(_))));
    put(&first, Token).await.expect("the first");
    let before = world.storage.position();
    put(&first, Token).await.expect("the same");
    assert_eq!(world.storage.position(), before);
    let second =
        CrossSigningUpload { master: Some(cross_signing_key(&bob, "master", &other)), ..CrossSigningUpload::default() };
    assert!(matches!(put(&second, Token).await, Err(KeysError::Unauthenticated)));
    put(&second, Interactive).await.expect("replaced");
    let query: Query = [(bob.user_id.clone(), Vec::new())].into();
    let found = keys.query(Asker::User(&bob), &query).await.expect("found");
    assert!(found.master_keys[&bob.user_id].get().contains(&other.public_base64()));
    assert!(found.self_signing_keys.is_empty() && found.user_signing_keys.is_empty(), "the old master key signed them");
    let named = world.login("bob", "secret", device(&usk.public_base64())).await;
    named.expect("any device id will do");
    let taken =
        CrossSigningUpload { master: Some(cross_signing_key(&bob, "master", &usk)), ..CrossSigningUpload::default() };
    assert!(matches!(put(&taken, Interactive).await, Err(KeysError::KeyIdInUse)));
}

#[tokio::test]
async fn of_two_first_uploads_one_has_to_authenticate() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let upload = |seed| CrossSigningUpload {
        master: Some(cross_signing_key(&bob, "master", &signer(seed))),
        ..CrossSigningUpload::default()
    };
    let (one, two) = (upload(1), upload(2));
    let keys = world.users.keys();
    let (one, two) = tokio::join!(
        keys.upload_cross_signing(&bob, &one, Authentication::Token),
        keys.upload_cross_signing(&bob, &two, Authentication::Token)
    );
    let refused = [one, two].into_iter().filter(|done| matches!(done, Err(KeysError::Unauthenticated))).count();
    assert_eq!(refused, 1);
}

#[tokio::test]
async fn signatures_are_seen_by_who_may_see_them() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let carol = world.user("carol").await;
    let carol = requester(&world.users, &crate::testing::token(&carol)).await;
    let keys = world.users.keys();
    let [device_key, master, ssk, usk, others_master] = [1, 11, 12, 13, 14].map(signer);
    let device_keys = identity(&bob, &device_key);
    keys.upload(&bob, KeyUpload { device_keys: Some(device_keys.clone()), ..KeyUpload::default() })
        .await
        .expect("uploaded");
    let by_master = |usage, key: &ServerKey| {
        Some(signed_by(cross_signing_key(&bob, usage, key), "@bob:hs1", &master.public_base64(), &master))
    };
    let upload = CrossSigningUpload {
        master: Some(cross_signing_key(&bob, "master", &master)),
        self_signing: by_master("self_signing", &ssk),
        user_signing: by_master("user_signing", &usk),
    };
    keys.upload_cross_signing(&bob, &upload, Authentication::Token).await.expect("uploaded");
    let of_carol = cross_signing_key(&carol, "master", &others_master);
    let upload = CrossSigningUpload { master: Some(of_carol.clone()), ..CrossSigningUpload::default() };
    keys.upload_cross_signing(&carol, &upload, Authentication::Token).await.expect("uploaded");

    let own_master = signed_by(cross_signing_key(&bob, "master", &master), "@bob:hs1", "A", &device_key);
    let own_device = signed_by(device_keys.clone(), "@bob:hs1", &ssk.public_base64(), &ssk);
    let signed_carol = signed_by(of_carol.clone(), "@bob:hs1", &usk.public_base64(), &usk);
    let bad = signed_by(device_keys.clone(), "@bob:hs1", &ssk.public_base64(), &usk);
    let other = signed_by(identity(&bob, &usk), "@bob:hs1", &ssk.public_base64(), &ssk);
    let upload = |user: &Requester, key: &str, object: &CanonicalJsonObject| -> SignatureUpload {
        [(user.user_id.clone(), [(key.to_owned(), object.clone())].into())].into()
    };
    let sign = async |who: &Requester, upload: SignatureUpload| {
        let failures = keys.upload_signatures(who, &upload).await.expect("judged");
        failures.into_values().flat_map(BTreeMap::into_values).next()
    };
    assert_eq!(sign(&bob, upload(&bob, "A", &bad)).await, Some(SignatureFailure::BadSignature));
    assert_eq!(sign(&bob, upload(&bob, "A", &other)).await, Some(SignatureFailure::OtherKey));
    assert_eq!(sign(&bob, upload(&bob, "NO", &own_device)).await, Some(SignatureFailure::UnknownKey));
    let by_carol = sign(&carol, upload(&bob, &master.public_base64(), &own_master)).await;
    assert_eq!(by_carol, Some(SignatureFailure::NotYours));
    let before = log(&world, &bob).await;
    for (user, id, object) in [
        (&bob, "A".to_owned(), &own_device),
        (&bob, master.public_base64(), &own_master),
        (&carol, others_master.public_base64(), &signed_carol),
    ] {
        assert_eq!(sign(&bob, upload(user, &id, object)).await, None, "{id}");
        let position = world.storage.position();
        assert_eq!(sign(&bob, upload(user, &id, object)).await, None, "again");
        assert_eq!(world.storage.position(), position);
    }
    let after = log(&world, &bob).await;
    assert!(after[0].0 > before[0].0 && after[1].1.as_deref() == Some("@carol:hs1"), "{after:?}");

    let query: Query = [(bob.user_id.clone(), Vec::new()), (carol.user_id.clone(), Vec::new())].into();
    let seen =
        async |asker: Asker<'_>| serde_json::to_value(keys.query(asker, &query).await.expect("found")).expect("JSON");
    let (by_bob, by_carol, by_server) =
        (seen(Asker::User(&bob)).await, seen(Asker::User(&carol)).await, seen(Asker::Server).await);
    let of_device = format!("ed25519:{}", ssk.public_base64());
    for seen in [&by_bob, &by_carol, &by_server] {
        assert!(seen["device_keys"]["@bob:hs1"]["A"]["signatures"]["@bob:hs1"][&of_device].is_string());
        assert!(seen["master_keys"]["@bob:hs1"]["signatures"]["@bob:hs1"]["ed25519:A"].is_string());
        assert!(seen["self_signing_keys"]["@bob:hs1"].is_object());
    }
    assert!(by_bob["master_keys"]["@carol:hs1"]["signatures"]["@bob:hs1"].is_object());
    for seen in [&by_carol, &by_server] {
        assert!(seen["master_keys"]["@carol:hs1"]["signatures"].is_null());
        assert!(seen["user_signing_keys"].is_null());
    }
    assert!(by_bob["user_signing_keys"]["@bob:hs1"].is_object());
    // The device has signed its keys anew: what the user signed stays.
    keys.upload(&bob, KeyUpload { device_keys: Some(device_keys), ..KeyUpload::default() }).await.expect("uploaded");
    assert!(
        seen(Asker::Server).await["device_keys"]["@bob:hs1"]["A"]["signatures"]["@bob:hs1"][&of_device].is_string()
    );
}

#[tokio::test]
async fn names_of_devices_are_for_this_servers_users() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let upload = KeyUpload { device_keys: Some(identity(&bob, &signer(1))), ..KeyUpload::default() };
    keys.upload(&bob, upload).await.expect("uploaded");
    world.users.devices().rename(bob.user_nid, "A".into(), Some("my \"phone\"")).await.expect("renamed");
    for (wanted, found) in
        [(vec![], 1), (vec!["A".into(), "B".into()], 1), (vec!["A".into()], 1), (vec!["B".into()], 0)]
    {
        let query: Query = [(bob.user_id.clone(), wanted)].into();
        let answer = keys.query(Asker::User(&bob), &query).await.expect("found");
        assert_eq!(answer.device_keys[&bob.user_id].len(), found);
        for device in answer.device_keys[&bob.user_id].values() {
            let device: Value = serde_json::from_str(device.get()).expect("JSON");
            assert_eq!(device["unsigned"]["device_display_name"], "my \"phone\"");
        }
        let answer = keys.query(Asker::Server, &query).await.expect("found");
        assert!(answer.device_keys[&bob.user_id].values().all(|device| !device.get().contains("unsigned")));
    }
    let nobody: Query = [(user_id!("@nobody:hs1").to_owned(), Vec::new())].into();
    assert!(keys.query(Asker::Server, &nobody).await.expect("answered").device_keys.is_empty());
}

/// A server that can be killed at a step of its store.
async fn opened(disk: &MemoryDisk, clock: &Arc<ManualClock>, faults: &Faults, seed: u64) -> (Users, Storage) {
    let shared: SharedClock = clock.clone();
    let store = StoreOptions { faults: faults.clone(), ..StoreOptions::memory(disk, "hs1") };
    let storage = Storage::open(store, &shared, &Random::seeded(1)).expect("opens");
    let users = Users::open(storage.clone(), shared, Random::seeded(seed), options()).await.expect("opens");
    (users, storage)
}

/// Killed at each step of ten claims, and started again: what was issued is never issued again, and the count is right.
#[tokio::test]
async fn a_kill_between_any_two_steps_issues_no_key_twice() {
    for (step, nth) in [Step::Check, Step::Write, Step::Sync, Step::Publish, Step::Acknowledge]
        .into_iter()
        .flat_map(|step| (1..=11).map(move |nth| (step, nth)))
    {
        let (disk, clock, faults) = (MemoryDisk::new(), ManualClock::new(UnixMillis(1)), Faults::new());
        let (users, storage) = opened(&disk, &clock, &faults, 2).await;
        let registered = users.register(crate::testing::account("bob")).await.expect("registered");
        let bob = requester(&users, &crate::testing::token(&registered)).await;
        users.keys().upload(&bob, one_time_keys(0..10)).await.expect("uploaded");
        faults.at(step, nth, Fault::Stop);
        let mut issued = Vec::new();
        for _ in 0..10 {
            match users.keys().claim(claims(&bob)).await {
                Ok(keys) => {
                    issued.extend(keys.into_values().flat_map(BTreeMap::into_values).flatten().map(|key| key.0));
                }
                Err(KeysError::Store(StoreError::Commit(_))) => break,
                Err(error) => panic!("{error}"),
            }
        }
        drop((users, storage));
        let faults = Faults::new();
        let (users, storage) = opened(&disk, &clock, &faults, 3).await;
        let device = bob.device_id.as_deref().expect("a device");
        let there = count(&Keys::left(&storage.view(), bob.user_nid, device).await.expect("read"));
        let mut rest = 0;
        while let Some(key) = claim(&users, &bob).await {
            issued.push(key);
            rest += 1;
        }
        assert_eq!(rest, there, "{step:?} {nth}");
        let distinct: BTreeSet<_> = issued.iter().collect();
        assert_eq!(distinct.len(), issued.len(), "{step:?} {nth}: {issued:?}");
        assert!(issued.len() >= 9, "{step:?} {nth}: at most the one under way is lost");
    }
}

#[tokio::test]
async fn after_a_restore_no_key_from_before_is_issued_and_fallback_keys_serve() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let keys = world.users.keys();
    let fallback_keys = [one_time("F", 50)].into();
    keys.upload(&bob, KeyUpload { fallback_keys, ..one_time_keys(0..5) }).await.expect("uploaded");
    claim(&world.users, &bob).await.expect("a key");
    let discarded = crate::restored::discard_what_may_be_stale(&world.storage).await.expect("discarded");
    assert_eq!((discarded.one_time_keys, discarded.remote_lists), (4, 0));
    let left = left(&world, &bob).await;
    assert_eq!((count(&left), left.unused_fallback.len()), (0, 0));
    assert_eq!(claim(&world.users, &bob).await.as_deref(), Some("signed_curve25519:F"));
    // What was there before is not taken again, what is new is.
    assert_eq!(count(&keys.upload(&bob, one_time_keys(0..7)).await.expect("uploaded")), 2);
    for name in ["005", "006"] {
        assert_eq!(claim(&world.users, &bob).await, Some(format!("signed_curve25519:{name}")));
    }
    crate::restored::discard_what_may_be_stale(&world.storage).await.expect("it may be done again");
    let report = world.users.verify().await.expect("read");
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.devices, report.one_time_keys), (0, 0));
}

#[tokio::test]
async fn a_check_finds_keys_that_are_not_counted_and_devices_that_are_not_there() {
    let world = World::new().await;
    let bob = bob(&world).await;
    let upload = KeyUpload { device_keys: Some(identity(&bob, &signer(1))), ..one_time_keys(0..5) };
    world.users.keys().upload(&bob, upload).await.expect("uploaded");
    claim(&world.users, &bob).await.expect("a key");
    let report = world.users.verify().await.expect("read");
    assert!(report.is_whole(), "{report}");
    assert_eq!((report.devices, report.one_time_keys), (1, 4));
    let device = (bob.user_nid, Text::new("A"));
    let mut batch = storage::Batch::new();
    batch.delete_prefix::<OneTimeKeys>(&device).delete::<storage::schema::users::Devices>(&device);
    world.storage.commit(batch).await.expect("commits");
    assert_eq!(world.users.verify().await.expect("read").fault_count, 2);
}
