//! What a sync tells of a room that is no part of its history: receipts, and who is typing.

use std::collections::{BTreeMap, HashSet};

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
                Some(since) => receipts::since(room, since.position).await?,
                None => receipts::of_room(room.view, room.nid).await?,
            };
            let reader = asked.reader.user_id.as_str();
            let seen = receipts.iter().filter(|r| r.receipt_type == ReceiptType::Read || r.user_id == reader);
            events.extend(contents(seen).into_iter().map(|content| event("m.receipt", content)));
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

/// Receipts as clients get them. Where a user has several of one type on one event, the one that is of no thread is told alone (MSC4102); those of
/// several threads do not fit into one event, so each further one goes into another.
fn contents<'a>(receipts: impl Iterator<Item = &'a Receipt>) -> Vec<Content<'a>> {
    let mut receipts: Vec<_> = receipts.collect();
    receipts.sort_by_key(|receipt| (receipt.thread != Thread::Unthreaded, receipt.position));
    let mut contents = Vec::new();
    let mut unthreaded = HashSet::new();
    for receipt in receipts {
        let place = (&*receipt.event_id, receipt.receipt_type, &*receipt.user_id);
        if receipt.thread == Thread::Unthreaded {
            unthreaded.insert(place);
        } else if unthreaded.contains(&place) {
            continue;
        }
        let (event_id, receipt_type, user_id) = (place.0, place.1.as_str(), place.2);
        let is_taken = |content: &&mut Content<'_>| {
            content
                .get(event_id)
                .and_then(|types| types.get(receipt_type))
                .is_some_and(|users| users.contains_key(user_id))
        };
        let at = contents.iter_mut().take_while(is_taken).count();
        if at == contents.len() {
            contents.push(Content::new());
        }
        let users = contents[at].entry(event_id).or_default().entry(receipt_type).or_default();
        users.insert(user_id, Data { ts: receipt.ts, thread_id: receipt.thread.thread_id() });
    }
    contents
}
