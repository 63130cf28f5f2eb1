use std::collections::BTreeMap;

use primitives::ServerKey;
use ruma::{
    canonical_json::CanonicalJsonObject,
    owned_server_name,
    serde::Base64,
    server_name,
    signatures::{PublicKeyMap, Verified, reference_hash, verify_event},
    user_id,
};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Draft, TestRoom};

fn keys() -> PublicKeyMap {
    let key = ServerKey::new("1", [7; 32]).expect("valid");
    let set = BTreeMap::from([("ed25519:1".to_owned(), Base64::new(key.public().to_vec()))]);
    BTreeMap::from([("x".to_owned(), set)])
}

fn version(name: &str) -> RoomVersion {
    RoomVersion::parse(name).expect("known")
}

/// A message as another server could send it; valid in every version from 3 on but for its signature.
fn received() -> Value {
    json!({
        "auth_events": ["$a"], "prev_events": ["$b"], "content": { "body": "hi" }, "depth": 12, "hashes": { "sha256": "AA" },
        "origin_server_ts": 1_700_000_000_000_u64, "room_id": "!r:x", "sender": "@a:x", "signatures": {}, "type": "m.room.message",
        "unsigned": { "age": 5 },
    })
}

fn parse(name: &str, event: &Value) -> Result<Pdu, PduError> {
    Pdu::parse(version(name), event.to_string().as_bytes())
}

#[test]
fn own_events_verify_in_every_version_by_ruma_and_by_us() {
    for version in RoomVersion::supported() {
        let (mut room, mut state) = TestRoom::public(version.as_str());
        room.apply(&mut state, Draft::state("@a:x", "m.room.topic", "", json!({ "topic": "é\"\\\u{1}" })))
            .expect("allowed");
        for pdu in &room.events {
            let object: CanonicalJsonObject = serde_json::from_str(pdu.json()).expect("canonical");
            assert_eq!(serde_json::to_string(&object).expect("JSON"), pdu.json(), "keys are sorted");
            assert_eq!(verify_event(&keys(), &object, version.rules()).expect("signed"), Verified::All, "{version}");
            if !version.has_server_event_ids() {
                let hash = reference_hash(&object, version.rules()).expect("hashable");
                assert_eq!(pdu.event_id().as_str(), format!("${hash}"), "{version}");
            }
            pdu.verify_signatures(&keys()).expect("signed");
            assert!(pdu.content_hash_matches());
            let again = Pdu::parse(version, pdu.json().as_bytes()).expect("parses");
            assert_eq!((again.event_id(), again.json()), (pdu.event_id(), pdu.json()));
            let stored = Pdu::from_stored(version, pdu.event_id().clone(), pdu.json().to_owned()).expect("parses");
            assert_eq!(stored.room_id(), pdu.room_id());
            assert_eq!(stored.content().get(), pdu.content().get());
        }
    }
}

#[test]
fn the_room_id_of_version_12_is_the_create_events() {
    let (room, _) = TestRoom::public("12");
    let create = &room.events[0];
    assert!(!create.json().contains("room_id"));
    assert_eq!(create.room_id().as_str()[1..], create.event_id().as_str()[1..]);
    assert_eq!(Event::room_id(create), None);
    assert_eq!(room.events[1].create_event_id().as_ref(), Some(create.event_id()));
    assert!(!room.events[1].auth_events().contains(create.event_id()));
}

#[test]
fn versions_1_and_2_name_events_by_server_and_cite_them_with_hashes() {
    let (room, _) = TestRoom::public("2");
    let last = room.events.last().expect("events");
    assert!(last.event_id().as_str().ends_with(":x"));
    let object: Value = serde_json::from_str(last.json()).expect("JSON");
    assert_eq!(object["event_id"], last.event_id().as_str());
    let cited = &object["prev_events"][0];
    assert_eq!(cited[0], last.prev_events()[0].as_str());
    assert_eq!(
        cited[1]["sha256"],
        room.get(&last.prev_events()[0]).expect("known").reference_hash().expect("hashable")
    );
    let ids: std::collections::BTreeSet<_> = room.events.iter().map(Pdu::event_id).collect();
    assert_eq!(ids.len(), room.events.len());
}

#[test]
fn unsigned_is_dropped_and_not_hashed() {
    let with = parse("11", &received()).expect("valid");
    assert!(!with.json().contains("unsigned"));
    let mut without = received();
    without.as_object_mut().expect("object").remove("unsigned");
    assert_eq!(parse("11", &without).expect("valid").event_id(), with.event_id());
}

#[test]
fn malformed_events_are_refused() {
    for (field, bad) in [
        ("type", json!(7)),
        ("type", Value::Null),
        ("sender", json!("a:x")),
        ("sender", json!(5)),
        ("room_id", json!("r")),
        ("room_id", Value::Null),
        ("content", json!([])),
        ("content", json!("x")),
        ("depth", json!(-1)),
        ("depth", json!("1")),
        ("depth", json!(1.5)),
        ("origin_server_ts", json!(-5)),
        ("origin_server_ts", Value::Null),
        ("state_key", Value::Null),
        ("state_key", json!({})),
        ("prev_events", json!({})),
        ("auth_events", json!([[]])),
        ("auth_events", json!(["a"])),
        ("prev_events", json!([["$a", {}]])),
        ("content", json!({ "n": 9_007_199_254_740_992_u64 })),
        ("content", json!({ "n": 0.5 })),
    ] {
        let mut event = received();
        event[field] = bad.clone();
        assert!(parse("11", &event).is_err(), "{field} = {bad}");
        event.as_object_mut().expect("object").remove(field);
        assert_eq!(parse("11", &event).is_ok(), field == "state_key", "without {field}");
    }
    assert!(Pdu::parse(version("11"), b"[]").is_err());
    assert!(Pdu::parse(version("11"), b"{\"a\":NaN}").is_err());
    assert!(parse("1", &received()).is_err(), "version 1 wants pairs and an event id");
}

#[test]
fn i12_counts_of_references_are_limited() {
    let ids = |count: usize| json!((0..count).map(|n| format!("$e{n}")).collect::<Vec<_>>());
    for (field, most) in [("auth_events", MAX_AUTH_EVENTS), ("prev_events", MAX_PREV_EVENTS)] {
        let mut event = received();
        event[field] = ids(most);
        assert!(parse("11", &event).is_ok());
        event[field] = ids(most + 1);
        assert!(matches!(parse("11", &event), Err(PduError::TooManyReferences { .. })));
    }
}

#[test]
fn an_event_has_at_most_65536_bytes() {
    let mut event = received();
    event["content"]["body"] = "".into();
    let empty = parse("11", &event).expect("valid").json().len();
    event["content"]["body"] = "x".repeat(MAX_PDU_BYTES - empty).into();
    assert_eq!(parse("11", &event).expect("just fits").json().len(), MAX_PDU_BYTES);
    event["unsigned"] = json!({ "big": "y".repeat(1_000) });
    assert!(parse("11", &event).is_ok(), "unsigned doesn't count");
    event["content"]["body"] = "x".repeat(MAX_PDU_BYTES - empty + 1).into();
    let error = parse("11", &event).expect_err("too large");
    assert!(matches!(error, PduError::TooLarge { bytes } if bytes == MAX_PDU_BYTES + 1));
    assert!(error.is_size());
}

#[test]
fn fields_have_255_code_points_before_version_11_and_255_bytes_since() {
    for field in ["type", "state_key"] {
        let mut event = received();
        event[field] = "é".repeat(255).into();
        assert!(parse("10", &event).is_ok());
        assert!(matches!(parse("11", &event), Err(PduError::FieldTooLong { .. })));
        assert!(matches!(parse("12", &event), Err(PduError::FieldTooLong { .. } | PduError::Id { .. })));
        event[field] = "e".repeat(256).into();
        assert!(matches!(parse("10", &event), Err(PduError::FieldTooLong { .. })));
        event[field] = "e".repeat(255).into();
        assert!(parse("11", &event).is_ok());
    }
}

#[test]
fn own_events_are_limited_to_bytes_in_every_version() {
    let key = ServerKey::new("1", [7; 32]).expect("valid");
    let input = |kind: &'static str, size: usize| BuildInput {
        version: version("10"),
        room_id: Some(ruma::room_id!("!r:x")),
        sender: user_id!("@a:x"),
        event_type: kind,
        state_key: None,
        content: CanonicalJsonObject::from([("body".to_owned(), "x".repeat(size).into())]),
        redacts: None,
        prev_events: &[],
        auth_events: &[],
        reference_hashes: None,
        depth: u64::MAX,
        origin_server_ts: UnixMillis(5),
        extra: vec![("msc4354_sticky".to_owned(), CanonicalJsonObject::new().into())],
    };
    let fits = build(input("m.room.message", 10), &key, server_name!("x")).expect("valid");
    assert_eq!(fits.depth(), MAX_DEPTH);
    assert!(fits.json().contains("msc4354_sticky"));
    fits.verify_signatures(&keys()).expect("signed");
    assert!(fits.content_hash_matches());
    let long = "éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé";
    assert!(long.len() > MAX_FIELD && long.chars().count() < MAX_FIELD);
    assert!(build(input(long, 10), &key, server_name!("x")).expect_err("too long").is_size());
    assert!(build(input("m.room.message", 65_536), &key, server_name!("x")).expect_err("too large").is_size());
    let mut reserved = input("m.room.message", 10);
    reserved.extra = vec![("sender".to_owned(), "@b:x".into())];
    assert!(matches!(build(reserved, &key, server_name!("x")), Err(PduError::ReservedField(_))));
}

#[test]
fn old_versions_keep_numbers_that_canonical_json_does_not_know() {
    let mut event = received();
    event["content"] =
        json!({ "float": 1.5, "big": 9_223_372_036_854_775_807_i64, "nested": [{ "n": -0.25 }], "small": 3 });
    event["depth"] = json!(9_223_372_036_854_775_807_i64);
    let pdu = parse("5", &event).expect("tolerated");
    assert_eq!(pdu.depth(), MAX_DEPTH);
    let text: Value = serde_json::from_str(pdu.json()).expect("JSON");
    assert_eq!(text["content"], event["content"]);
    assert_eq!(text["depth"], event["depth"]);
    assert_eq!(pdu.content_as::<Value>().expect("JSON"), event["content"]);
    assert!(!pdu.json().contains('\u{F0001}'));
    assert_eq!(pdu.redacted().expect("redactable").content().get(), "{}");
    event["content"]["mark"] = "\u{F0001}1".into();
    assert!(matches!(parse("5", &event), Err(PduError::Character)));
    assert!(parse("6", &event).is_err());
}

/// Reading a float and writing it in its shortest form must come to an end at once: an event whose text changed with each reading would have
/// another id on every server.
#[test]
fn floats_read_the_same_each_time() {
    for number in
        ["5.9894637535725905e190", "1.7976931348623157e308", "5e-324", "0.1", "1e22", "-0.0", "123456789012345678901"]
    {
        let text = received().to_string().replace("\"hi\"", number);
        let pdu = Pdu::parse(version("5"), text.as_bytes()).expect("tolerated");
        let again = Pdu::parse(version("5"), pdu.json().as_bytes()).expect("tolerated");
        assert_eq!((again.event_id(), again.json()), (pdu.event_id(), pdu.json()), "{number}");
    }
    let beyond = received().to_string().replace("\"hi\"", "1e400");
    assert!(Pdu::parse(version("5"), beyond.as_bytes()).is_err());
}

#[test]
fn a_changed_content_shows_and_redaction_heals_it() {
    let (room, _) = TestRoom::public("11");
    let mut event: Value = serde_json::from_str(room.events[1].json()).expect("JSON");
    event["content"]["displayname"] = "Mallory".into();
    let changed = parse("11", &event).expect("valid");
    assert_eq!(changed.event_id(), room.events[1].event_id(), "the name isn't covered by the reference hash");
    changed.verify_signatures(&keys()).expect("nor by the signature");
    assert!(!changed.content_hash_matches());
    let redacted = changed.redacted().expect("redactable");
    assert_eq!(redacted.content().get(), r#"{"membership":"join"}"#);
    redacted.verify_signatures(&keys()).expect("still signed");
    event["content"]["membership"] = "leave".into();
    let forged = parse("11", &event).expect("valid");
    assert_ne!(forged.event_id(), room.events[1].event_id());
    assert!(forged.verify_signatures(&keys()).is_err());
}

#[test]
fn signatures_are_required_of_the_right_servers() {
    let (mut room, state) = TestRoom::public("11");
    let content = json!({ "membership": "join", "join_authorised_via_users_server": "@b:y" });
    let pdu = room.make(&state, &Draft::state("@a:x", "m.room.member", "@a:x", content));
    let required = pdu.required_signatures().expect("readable");
    assert_eq!(
        required[0],
        RequiredSignature { server: owned_server_name!("x"), key_ids: vec!["ed25519:1".to_owned()] }
    );
    assert_eq!(required[1], RequiredSignature { server: owned_server_name!("y"), key_ids: vec![] });
    assert!(pdu.verify_signatures(&keys()).is_err(), "no keys of y");

    let other = ServerKey::new("k", [9; 32]).expect("valid");
    let cosigned = pdu.cosigned(&other, server_name!("y")).expect("signs");
    assert_eq!(cosigned.event_id(), pdu.event_id());
    let mut all = keys();
    all.insert("y".to_owned(), BTreeMap::from([("ed25519:k".to_owned(), Base64::new(other.public().to_vec()))]));
    cosigned.verify_signatures(&all).expect("both signed");
    assert!(pdu.verify_signatures(&all).is_err(), "y has not signed");
    all.insert("y".to_owned(), BTreeMap::from([("ed25519:k".to_owned(), Base64::new(vec![1; 32]))]));
    assert!(cosigned.verify_signatures(&all).is_err(), "another key");
}

#[test]
fn a_redaction_names_its_target_where_its_version_says() {
    let mut event = received();
    event["type"] = "m.room.redaction".into();
    event["redacts"] = "$top".into();
    event["content"] = json!({ "redacts": "$content" });
    assert_eq!(parse("10", &event).expect("valid").redacts().map(ToString::to_string).as_deref(), Some("$top"));
    assert_eq!(parse("11", &event).expect("valid").redacts().map(ToString::to_string).as_deref(), Some("$content"));
    event["content"] = json!({ "redacts": 5 });
    event["redacts"] = json!([]);
    assert_eq!(parse("10", &event).expect("valid").redacts(), None);
    assert_eq!(parse("11", &event).expect("valid").redacts(), None);
}
