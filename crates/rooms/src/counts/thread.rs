//! Of which thread an event is (client-server API, "Marking notifications as read").

use ruma::EventId;
use serde::Deserialize;
use storage::ReadError;

use crate::{read::RoomView, render::StoredEvent};

/// How many relations are followed to find a thread.
const MAX_HOPS: usize = 3;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: RelatesTo,
}

#[derive(Deserialize)]
struct RelatesTo {
    rel_type: String,
    event_id: String,
}

/// The root of the thread that an event is of, by its own relation or by that of an event that it relates to; `None` if it is of none. What a
/// redaction took away still counts, so that an event stays in its thread.
pub(super) async fn root_of(room: &RoomView<'_>, event: &StoredEvent) -> Result<Option<String>, ReadError> {
    let mut relation = relation(event);
    for hop in 0..=MAX_HOPS {
        let Some(RelatesTo { rel_type, event_id }) = relation else { return Ok(None) };
        if rel_type == "m.thread" {
            return Ok(Some(event_id));
        }
        if hop == MAX_HOPS {
            break;
        }
        let Ok(id) = <&EventId>::try_from(event_id.as_str()) else { return Ok(None) };
        let Some(rix) = room.find_event(id).await? else { return Ok(None) };
        relation = room.event(rix).await?.and_then(|event| self::relation(&event));
    }
    Ok(None)
}

fn relation(event: &StoredEvent) -> Option<RelatesTo> {
    // Most events relate to none, which is known without reading them again.
    event.facts().rel_type?;
    event.content_as::<Content>().map(|content| content.relates_to)
}
