//! The reads on rooms that are written row by row.

mod history;
mod members;
mod single;

use primitives::Rix;
use serde_json::Value;

use super::*;
use crate::{
    filter::RoomEventFilter,
    testing::stored::{World, event_id, reader},
};

/// A page as JSON.
async fn messages(world: &World, user: &str, request: MessagesRequest) -> Value {
    let page = world.reads.messages(&reader(user), world.id(), request).await.expect("a page");
    serde_json::to_value(page).expect("JSON")
}

fn asked(direction: PageDirection, from: Option<PageToken>, limit: u64) -> MessagesRequest {
    MessagesRequest { direction, from, to: None, limit: Some(limit), filter: RoomEventFilter::default() }
}

fn end(page: &Value) -> Option<PageToken> {
    page["end"].as_str().map(|end| end.parse().expect("a token"))
}

/// The numbers of a page's events.
fn rixes(events: &Value) -> Vec<u32> {
    let number = |event: &Value| event["event_id"].as_str()?.rsplit('e').next()?.parse().ok();
    events.as_array().expect("a list").iter().map(|event| number(event).expect("a number")).collect()
}

fn id(rix: Rix) -> ruma::OwnedEventId {
    event_id(crate::testing::stored::ROOM, rix)
}

use crate::tokens::PageToken;
