//! Whether an event belongs to a thread (specification, "Threaded read receipts").

use ruma::{EventId, OwnedEventId};
use serde::Deserialize;
use storage::ReadError;

use crate::{read::RoomView, render::StoredEvent};

/// How many relations are followed.
const MAX_HOPS: usize = 3;

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: RelatesTo,
}

#[derive(Deserialize)]
struct RelatesTo {
    event_id: OwnedEventId,
}

/// Whether an event is the root of a thread or has to do with it over a few relations. Those need not be of the thread's own kind: clients send
/// receipts for reactions and edits too, also for those of the root.
pub(super) async fn is_related(room: &RoomView<'_>, event: &StoredEvent, root: &EventId) -> Result<bool, ReadError> {
    if event.header.event_id == root.as_str() {
        return Ok(true);
    }
    let mut target = event.content_as::<Content>().map(|content| content.relates_to.event_id);
    for _ in 0..MAX_HOPS {
        let Some(event_id) = target else { return Ok(false) };
        if event_id == root {
            return Ok(true);
        }
        let Some(rix) = room.find_event(&event_id).await? else { return Ok(false) };
        let event = room.event(rix).await?;
        target = event.and_then(|event| event.content_as::<Content>()).map(|content| content.relates_to.event_id);
    }
    Ok(false)
}
