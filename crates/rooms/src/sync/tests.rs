//! Sync on rooms that are written row by row.

mod client;
mod incremental;
mod lazy;
mod rooms;

use serde_json::Value;

use super::*;
use crate::testing::stored::{World, reader};

/// Asks once, without waiting. What comes in pieces is the same as a whole.
async fn synced(world: &World, user: &str, request: SyncRequest) -> (SyncToken, Value) {
    let answer = world.reads.answer_sync(&reader(user), request.clone()).await.expect("an answer");
    let response = world.reads.sync(&reader(user), request).await.expect("a response");
    let (token, whole) = (response.next_batch, serde_json::to_value(response).expect("JSON"));
    let answer = match answer {
        SyncAnswer::Whole(response) => serde_json::to_value(response).expect("JSON"),
        SyncAnswer::Pieces(mut pieces) => {
            let mut text = Vec::new();
            while let Some(piece) = pieces.next().await.expect("read at once") {
                text.extend(piece);
            }
            serde_json::from_slice(&text).expect("JSON")
        }
    };
    assert_eq!(answer, whole);
    (token, whole)
}

fn since(token: SyncToken) -> SyncRequest {
    SyncRequest { since: Some(token), ..SyncRequest::default() }
}

fn filtered(json: &str) -> SyncRequest {
    SyncRequest { filter: Filter::parse(json).expect("a filter"), ..SyncRequest::default() }
}

/// The numbers of a list of events.
fn rixes(events: &Value) -> Vec<u32> {
    let number = |event: &Value| event["event_id"].as_str()?.rsplit('e').next()?.parse().ok();
    events
        .as_array()
        .map(|events| events.iter().map(|event| number(event).expect("a number")).collect())
        .unwrap_or_default()
}

/// The numbers of a joined room's timeline, of its state, and whether it is limited.
fn part(room: &Value) -> (Vec<u32>, Vec<u32>, bool) {
    (rixes(&room["timeline"]["events"]), rixes(&room["state"]["events"]), room["timeline"]["limited"] == true)
}

fn joined(response: &Value) -> &Value {
    &response["rooms"]["join"]["!r1:x"]
}
