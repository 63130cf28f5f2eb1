//! Events.

use std::{collections::BTreeMap, sync::LazyLock};

use primitives::{ServerKey, UnixMillis, canonical};
use proptest::{prelude::*, sample::Index};
use rooms::{
    Pdu, RoomVersion,
    pdu::{BuildInput, MAX_AUTH_EVENTS, MAX_DEPTH, MAX_PDU_BYTES, MAX_PREV_EVENTS, build},
};
use ruma::{OwnedEventId, OwnedRoomId, serde::Base64, server_name, signatures::PublicKeyMap, user_id};
use serde_json::{Value, json};

use crate::{cases, json};

/// One event of each kind that rules know, in each room version, well signed.
static GOOD: LazyLock<Vec<(RoomVersion, Value)>> = LazyLock::new(|| {
    RoomVersion::supported().flat_map(|version| good(version).into_iter().map(move |event| (version, event))).collect()
});

fn key() -> ServerKey {
    ServerKey::new("k", [3; 32]).expect("a key")
}

fn good(version: RoomVersion) -> Vec<Value> {
    let kinds = [
        ("m.room.create", Some(""), json!({ "creator": "@a:x", "room_version": version.as_str() })),
        ("m.room.member", Some("@a:x"), json!({ "membership": "join", "displayname": "A" })),
        ("m.room.member", Some("@a:x"), json!({ "membership": "join", "join_authorised_via_users_server": "@b:y" })),
        (
            "m.room.member",
            Some("@c:y"),
            json!({ "membership": "invite", "third_party_invite": { "signed": { "mxid": "@c:y", "token": "t" } } }),
        ),
        ("m.room.power_levels", Some(""), json!({ "users": { "@a:x": 100 }, "events": { "m.room.name": 50 } })),
        ("m.room.redaction", None, json!({ "reason": "no" })),
        ("m.room.message", None, json!({ "body": "é\"\\\u{1}", "list": [1, [2, {}], null, true] })),
    ];
    kinds.into_iter().map(|(kind, state_key, content)| event(version, kind, state_key, &content)).collect()
}

fn event(version: RoomVersion, kind: &str, state_key: Option<&str>, content: &Value) -> Value {
    let text = |letter: &str| letter.repeat(43);
    let pairs = version.has_server_event_ids();
    let id = |letter: &str| {
        OwnedEventId::try_from(if pairs { format!("${letter}:x") } else { format!("${}", text(letter)) })
    };
    let room_id = if version.room_id_is_create_hash() { format!("!{}", text("r")) } else { "!r:x".to_owned() };
    let room_id = OwnedRoomId::try_from(room_id).expect("a room id");
    let (prev, auth) = ([id("p").expect("an id")], [id("a").expect("an id"), id("b").expect("an id")]);
    let hashes: BTreeMap<_, _> = prev.iter().chain(&auth).map(|id| (id.clone(), text("h"))).collect();
    let begins = kind == "m.room.create";
    let redacts = id("t").expect("an id");
    let content = canonical::to_canonical(content).expect("canonical");
    let input = BuildInput {
        version,
        room_id: (!(begins && version.room_id_is_create_hash())).then_some(&room_id),
        sender: user_id!("@a:x"),
        event_type: kind,
        state_key,
        content: content.as_object().expect("an object").clone(),
        redacts: (kind == "m.room.redaction").then_some(&redacts),
        prev_events: if begins { &[] } else { &prev },
        auth_events: if begins { &[] } else { &auth },
        reference_hashes: Some(&hashes),
        depth: 7,
        origin_server_ts: UnixMillis(1_700_000_000_000),
        extra: Vec::new(),
    };
    let pdu = build(input, &key(), server_name!("x")).expect("a good event");
    serde_json::from_str(pdu.json()).expect("JSON")
}

/// Whatever was accepted is within the bounds and says the same wherever it is read again.
fn check(version: RoomVersion, bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(pdu) = Pdu::parse(version, bytes) else { return Ok(()) };
    prop_assert!(pdu.json().len() <= MAX_PDU_BYTES);
    prop_assert!(pdu.auth_events().len() <= MAX_AUTH_EVENTS && pdu.prev_events().len() <= MAX_PREV_EVENTS);
    prop_assert!(pdu.depth() <= MAX_DEPTH && pdu.origin_server_ts().0 <= MAX_DEPTH);
    let again = Pdu::parse(version, pdu.json().as_bytes()).expect("what was accepted is accepted again");
    prop_assert_eq!((again.event_id(), again.json()), (pdu.event_id(), pdu.json()));
    let stored = Pdu::from_stored(version, pdu.event_id().clone(), pdu.json().to_owned()).expect("can be stored");
    prop_assert_eq!(stored.room_id(), pdu.room_id());
    prop_assert_eq!((stored.kind(), stored.state_key()), (pdu.kind(), pdu.state_key()));
    prop_assert_eq!((stored.redacts(), stored.membership()), (pdu.redacts(), pdu.membership()));
    prop_assert!(serde_json::from_str::<serde_json::Map<String, Value>>(pdu.content().get()).is_ok());

    let redacted = pdu.redacted().expect("can be redacted");
    prop_assert!(redacted.json().len() <= pdu.json().len());
    let twice = redacted.redacted().expect("twice");
    prop_assert_eq!(twice.json(), redacted.json());
    prop_assert_eq!(redacted.event_id(), pdu.event_id());
    let of_redacted = Pdu::parse(version, redacted.json().as_bytes()).expect("a redacted event is an event");
    prop_assert_eq!(of_redacted.event_id(), pdu.event_id(), "a redaction changes no id");
    prop_assert_eq!(of_redacted.reference_hash().expect("hashed"), pdu.reference_hash().expect("hashed"));

    // None of this panics, whatever stands in `hashes` and `signatures`.
    let _ = (pdu.content_hash_matches(), pdu.required_signatures(), pdu.verify_signatures(&keys()));
    if let Ok(cosigned) = pdu.cosigned(&key(), server_name!("y")) {
        prop_assert_eq!(cosigned.event_id(), pdu.event_id());
    }
    Ok(())
}

fn keys() -> PublicKeyMap {
    let of_x = BTreeMap::from([("ed25519:k".to_owned(), Base64::new(key().public().to_vec()))]);
    PublicKeyMap::from([("x".to_owned(), of_x)])
}

/// What passes for signed is one of the good events of its version, with nothing changed that the hashes cover.
fn check_signed(version: RoomVersion, bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(pdu) = Pdu::parse(version, bytes) else { return Ok(()) };
    // An invite that comes of a third-party one needs no signature of the sender's server: the rules look at what the identity server has signed.
    let required = pdu.required_signatures().is_ok_and(|required| !required.is_empty());
    // In the oldest versions an id is the server's choice.
    if !required || pdu.verify_signatures(&keys()).is_err() || version.has_server_event_ids() {
        return Ok(());
    }
    let good = GOOD.iter().filter(|(of, _)| *of == version);
    let mut good = good.map(|(_, good)| Pdu::parse(version, good.to_string().as_bytes()).expect("good"));
    let same = good.find(|good| good.event_id() == pdu.event_id());
    prop_assert!(
        same.is_some_and(|good| !pdu.content_hash_matches() || same_but_unhashed(&good, &pdu)),
        "an event that nobody signed passes for signed: {}",
        pdu.json()
    );
    Ok(())
}

/// Whether two events differ in nothing but what neither hash covers.
fn same_but_unhashed(one: &Pdu, other: &Pdu) -> bool {
    let hashed = |pdu: &Pdu| {
        let mut event: Value = serde_json::from_str(pdu.json()).expect("JSON");
        drop(event.as_object_mut().expect("an object").remove("signatures"));
        event
    };
    hashed(one) == hashed(other)
}

fn any_version() -> impl Strategy<Value = RoomVersion> {
    any::<Index>().prop_map(|at| *at.get(&RoomVersion::supported().collect::<Vec<_>>()))
}

#[test]
fn good_events_are_good() {
    for (version, event) in GOOD.iter() {
        let pdu = Pdu::parse(*version, event.to_string().as_bytes()).expect("good");
        assert!(pdu.content_hash_matches(), "{version} {event}");
        check(*version, event.to_string().as_bytes()).expect("passes its own check");
    }
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn fuzz_pdu_changed(which in any::<Index>(), changes in json::changes()) {
        let (version, event) = which.get(&GOOD);
        let bytes = json::changed(event.clone(), &changes);
        check(*version, &bytes)?;
        check_signed(*version, &bytes)?;
    }

    #[test]
    fn fuzz_pdu_of_another_version(which in any::<Index>(), version in any_version(), changes in json::changes()) {
        let (_, event) = which.get(&GOOD);
        check(version, &json::changed(event.clone(), &changes))?;
    }

    #[test]
    fn fuzz_pdu_of_random_fields(version in any_version(), fields in proptest::collection::vec((0_usize..15, json::value()), 0..15)) {
        const NAMES: [&str; 15] = [
            "auth_events", "content", "depth", "event_id", "hashes", "origin", "origin_server_ts", "prev_events", "redacts", "room_id", "sender",
            "signatures", "state_key", "type", "unsigned",
        ];
        let event: serde_json::Map<_, _> = fields.into_iter().map(|(name, value)| (NAMES[name].to_owned(), value)).collect();
        check(version, Value::Object(event).to_string().as_bytes())?;
    }

    #[test]
    fn fuzz_pdu_of_any_bytes(version in any_version(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(version, &bytes)?;
    }
}
