//! What a sync tells of a room that is no part of its history: receipts, and who is typing.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::ReadError;

use super::{response::Events, room::Asked};
use crate::{
    read::{Reads, RoomView},
    receipts::{self, Receipt, ReceiptType, Thread},
};

#[derive(Serialize)]
struct Event<'a, T> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: T,
}

fn event<T: Serialize>(event_type: &str, content: T) -> Box<RawValue> {
    to_raw_value(&Event { event_type, content }).expect("an event serialises")
}

impl Reads {
    /// What is new in a room that the user is in; all there is, if the client knows nothing of the room.
    pub(super) async fn ephemeral(
        &self,
        room: &RoomView<'_>,
        asked: &Asked<'_>,
        whole: bool,
    ) -> Result<Events<Box<RawValue>>, ReadError> {
        let filter = &asked.request.filter.room.ephemeral;
        let mut events = Vec::new();
        if filter.selects_ephemeral(&room.room_id, "m.receipt") {
            let receipts = match asked.request.since.filter(|_| !whole) {
                Some(since) => receipts::since(room.view, room.nid, since.position).await?,
                None => receipts::of_room(room.view, room.nid).await?,
            };
            let reader = asked.reader.user_id.as_str();
            let seen = receipts.iter().filter(|r| r.receipt_type == ReceiptType::Read || r.user_id == reader);
            let content = content(seen);
            if !content.is_empty() {
                events.push(event("m.receipt", content));
            }
        }
        if filter.selects_ephemeral(&room.room_id, "m.typing") {
            let changed = self.0.typing.changes(&[room.nid]).into_iter().any(|change| change > asked.seen);
            let user_ids = self.0.typing.list(room.nid);
            // Who knows nothing of the room takes nobody to be typing.
            let news = if whole { !user_ids.is_empty() } else { changed };
            if news {
                events.push(event("m.typing", serde_json::json!({ "user_ids": user_ids })));
            }
        }
        Ok(Events { events })
    }
}

#[derive(Serialize)]
struct Data<'a> {
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
}

/// By event, type of receipt and user.
type Content<'a> = BTreeMap<&'a str, BTreeMap<&'static str, BTreeMap<&'a str, Data<'a>>>>;

/// Receipts as clients get them. Where a user has several of one type on one event, the one that is of no thread is told (MSC4102), or else the
/// newest.
fn content<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> Content<'a> {
    let mut receipts: Vec<_> = receipts.collect();
    receipts.sort_by_key(|receipt| (receipt.thread == Thread::Unthreaded, receipt.position));
    let mut content = Content::new();
    for receipt in receipts {
        let users = content.entry(&receipt.event_id).or_default().entry(receipt.receipt_type.as_str()).or_default();
        users.insert(&receipt.user_id, Data { ts: receipt.ts, thread_id: receipt.thread.thread_id() });
    }
    content
}
