//! Stripped state: what somebody outside a room may know of it (client-server API, "Stripped state").

use ruma::{RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use storage::ReadError;

use crate::{Pdu, RoomVersion, current::Current, pdu::MAX_PDU_BYTES};

/// The state that somebody outside the room may see, besides their own member event and its sender's.
pub(crate) const STRIPPED_TYPES: [&str; 8] = [
    "m.room.create",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.name",
    "m.room.encryption",
    "m.room.topic",
    "m.room.history_visibility",
];

/// Events of another server's stripped state that are kept.
const MAX_EVENTS: usize = 50;
/// Bytes of another server's stripped state that are kept, all events together.
const MAX_BYTES: usize = 256 << 10;

/// The fields of a stripped event; the last two for the create event only, from which the room's id can be told in room version 12.
#[derive(Deserialize, Serialize)]
struct StrippedForm<'a> {
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_server_ts: Option<u64>,
    sender: String,
    state_key: String,
    #[serde(rename = "type")]
    event_type: String,
}

/// An event that another server sent, as a client sees it; `None` if it isn't of that form (SECURITY 31).
pub(crate) fn strip(event: &str) -> Option<Box<RawValue>> {
    let mut form: StrippedForm<'_> = serde_json::from_str(event).ok()?;
    if !form.content.get().starts_with('{') {
        return None;
    }
    if form.event_type != "m.room.create" {
        (form.event_id, form.origin_server_ts) = (None, None);
    }
    to_raw_value(&form).ok()
}

/// What is kept of the stripped state that another server sent: a JSON array. From room version 12 on the create event has to be there in full, and to be the one
/// that the room's id spells (MSC4311); `None` if it is not.
pub(crate) fn kept(version: RoomVersion, room_id: &RoomId, events: &[Box<RawValue>]) -> Option<Vec<u8>> {
    let (mut kept, mut bytes, mut has_create) = (Vec::new(), 0, false);
    for event in events.iter().filter(|event| event.get().len() <= MAX_PDU_BYTES).take(MAX_EVENTS) {
        let Some(stripped) = strip(event.get()) else { continue };
        if bytes + stripped.get().len() > MAX_BYTES {
            break;
        }
        bytes += stripped.get().len();
        has_create |= Pdu::parse(version, event.get().as_bytes())
            .is_ok_and(|pdu| pdu.is_state("m.room.create", "") && pdu.room_id() == room_id);
        kept.push(stripped);
    }
    if version.room_id_is_create_hash() && !has_create {
        return None;
    }
    serde_json::to_vec(&kept).ok()
}

impl Current<'_> {
    /// The events by which somebody outside the room can recognise it, whole as other servers get them (MSC4311); with the member event of who asks them in.
    pub(crate) async fn identifying(&self, sender: Option<&UserId>) -> Result<Vec<Pdu>, ReadError> {
        let mut events = Vec::with_capacity(STRIPPED_TYPES.len() + 1);
        for event_type in STRIPPED_TYPES {
            events.extend(self.event(event_type, "").await?);
        }
        if let Some(sender) = sender {
            events.extend(self.event("m.room.member", sender.as_str()).await?);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn what_is_no_stripped_event_is_dropped_and_the_rest_has_four_fields() {
        let name = r#"{"type":"m.room.name","state_key":"","sender":"@a:b","content":{"name":"n"},"origin_server_ts":3,"x":1}"#;
        let events = [
            raw(name),
            raw("5"),
            raw(r#"{"type":"m.room.name","sender":"@a:b","content":{}}"#),
            raw(r#"{"type":"m.room.name","state_key":"","sender":"@a:b","content":5}"#),
        ];
        let version = RoomVersion::parse("11").expect("known");
        let room = <&RoomId>::try_from("!a:b").expect("a room id");
        let kept = kept(version, room, &events).expect("no create event is asked for");
        let expected = r#"[{"content":{"name":"n"},"sender":"@a:b","state_key":"","type":"m.room.name"}]"#;
        assert_eq!(String::from_utf8(kept).expect("text"), expected);
        let version = RoomVersion::parse("12").expect("known");
        assert_eq!(super::kept(version, room, &events), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let event =
            format!(r#"{{"type":"t","state_key":"","sender":"@a:b","content":{{"a":"{}"}}}}"#, "x".repeat(9_000));
        let events: Vec<_> = (0..200).map(|_| raw(&event)).collect();
        let version = RoomVersion::parse("11").expect("known");
        let kept = kept(version, <&RoomId>::try_from("!a:b").expect("a room id"), &events).expect("kept");
        assert!(kept.len() <= MAX_BYTES + MAX_EVENTS + 2);
        assert!(serde_json::from_slice::<Vec<Box<RawValue>>>(&kept).expect("a list").len() <= MAX_EVENTS);
    }
}
