use primitives::{NodeId, Rank, Rix, StreamPosition, UnixMillis};
use serde_json::{Value, json};
use storage::{
    Positioned,
    schema::rooms::{EventHeader, EventKind, Membership, Verdict},
};

use super::*;
use crate::RoomVersion;

fn stored(version: &str, event: &Value) -> StoredEvent {
    let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let header = EventHeader {
        event_id: "$e".to_owned(),
        origin_server_ts: event["origin_server_ts"].as_u64().unwrap_or_default(),
        sender: text("sender"),
        event_type: text("type"),
        state_key: event["state_key"].as_str().map(ToOwned::to_owned),
        membership: None,
        kind: EventKind::Timeline,
        verdict: Verdict::Accepted,
        rank: Rank::FIRST,
        depth: 1,
        root_before: NodeId(0),
        root_after: NodeId(0),
        auth: vec![],
        prev: vec![],
    };
    let version = RoomVersion::parse(version).expect("a known version");
    let header = Positioned { position: StreamPosition(7), value: header };
    StoredEvent::new(version, Rix(1), header, event.to_string().as_bytes()).expect("an event")
}

fn shown(event: StoredEvent, unsigned: Unsigned, format: EventFormat) -> Value {
    let room_id = Some("!r:x".try_into().expect("a room id"));
    serde_json::to_value(ClientEvent { event: Arc::new(event), room_id, unsigned, format, fields: None }).expect("JSON")
}

fn message() -> Value {
    json!({
        "auth_events": ["$a"], "content": { "body": "hi", "msgtype": "m.text", "url": null, "m.relates_to": { "rel_type": "m.thread" } },
        "depth": 3, "hashes": { "sha256": "x" }, "origin_server_ts": 1_000, "prev_events": ["$p"], "room_id": "!r:x",
        "sender": "@a:x", "signatures": {}, "type": "m.room.message", "msc4354_sticky": { "duration_ms": 5 },
    })
}

#[test]
fn clients_see_no_field_that_only_servers_need() {
    let event = stored("11", &message());
    assert!(event.facts().has_url);
    assert_eq!(event.facts().rel_type, Some("m.thread"));
    let unsigned = Unsigned { age: Some(event.age(UnixMillis(1_250))), ..Unsigned::default() };
    insta::assert_snapshot!(shown(event, unsigned, EventFormat::Client), @r#"{"content":{"body":"hi","m.relates_to":{"rel_type":"m.thread"},"msgtype":"m.text","url":null},"event_id":"$e","msc4354_sticky":{"duration_ms":5},"origin_server_ts":1000,"room_id":"!r:x","sender":"@a:x","type":"m.room.message","unsigned":{"age":250}}"#);
}

#[test]
fn the_federation_format_keeps_every_field() {
    let mut expected = message();
    expected["event_id"] = json!("$e");
    expected["unsigned"] = json!({});
    assert_eq!(shown(stored("11", &message()), Unsigned::default(), EventFormat::Federation), expected);
}

#[test]
fn a_redacted_event_keeps_only_what_its_version_protects() {
    let version = RoomVersion::parse("11").expect("a known version");
    let pruned = stored("11", &message()).redacted(version).expect("redacts");
    assert!(!pruned.facts().has_url);
    let because = ClientEvent {
        event: Arc::new(stored(
            "11",
            &json!({ "type": "m.room.redaction", "sender": "@b:x", "content": { "redacts": "$e" } }),
        )),
        room_id: None,
        unsigned: Unsigned::default(),
        format: EventFormat::Client,
        fields: None,
    };
    let unsigned = Unsigned { redacted_because: Some(Box::new(because)), ..Unsigned::default() };
    let shown = shown(pruned, unsigned, EventFormat::Client);
    assert_eq!(shown["content"], json!({}));
    assert_eq!(shown["unsigned"]["redacted_because"]["redacts"], "$e");
    assert!(shown.get("msc4354_sticky").is_none());
}

#[test]
fn a_redaction_names_its_target_where_old_and_new_clients_look() {
    let old = json!({ "type": "m.room.redaction", "sender": "@b:x", "redacts": "$t", "content": { "reason": "spam" } });
    let new = json!({ "type": "m.room.redaction", "sender": "@b:x", "content": { "reason": "spam", "redacts": "$t" } });
    for (version, event) in [("10", &old), ("11", &new)] {
        let shown_to_client = shown(stored(version, event), Unsigned::default(), EventFormat::Client);
        assert_eq!(
            (&shown_to_client["redacts"], &shown_to_client["content"]["redacts"]),
            (&json!("$t"), &json!("$t")),
            "{version}"
        );
        let federated = shown(stored(version, event), Unsigned::default(), EventFormat::Federation);
        assert_eq!(
            (&federated["content"], federated.get("redacts")),
            (&event["content"], event.get("redacts")),
            "{version}"
        );
    }
}

#[test]
fn unsigned_says_what_is_for_this_reader() {
    let topic =
        |text: &str| json!({ "type": "m.room.topic", "state_key": "", "sender": "@b:x", "content": { "topic": text } });
    let unsigned = Unsigned {
        age: None,
        replaces: Some(Arc::new(stored("11", &topic("old")))),
        redacted_because: None,
        transaction_id: Some("t1".to_owned()),
        delay_id: Some("d1".to_owned()),
        membership: Some(Membership::Join),
        relations: None,
        children: None,
    };
    let shown = shown(stored("11", &topic("new")), unsigned, EventFormat::Client);
    insta::assert_snapshot!(shown["unsigned"], @r#"{"delay_id":"d1","membership":"join","org.matrix.msc4140.delay_id":"d1","prev_content":{"topic":"old"},"prev_sender":"@b:x","replaces_state":"$e","transaction_id":"t1"}"#);
}

#[test]
fn a_stripped_event_has_four_fields() {
    let event = stored(
        "11",
        &json!({ "type": "m.room.name", "state_key": "", "sender": "@b:x", "content": { "name": "n" }, "depth": 1 }),
    );
    let shown = serde_json::to_string(&StrippedEvent(Arc::new(event))).expect("JSON");
    insta::assert_snapshot!(shown, @r#"{"content":{"name":"n"},"sender":"@b:x","state_key":"","type":"m.room.name"}"#);
}
