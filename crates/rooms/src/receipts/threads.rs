//! Whether an event belongs to a thread (specification, "Threaded read receipts").

use ruma::EventId;
use storage::ReadError;

use crate::{
    read::{MAX_HOPS, RoomView, target_of},
    render::StoredEvent,
};

/// Whether an event is the root of a thread or has to do with it over a few relations. Those need not be of the thread's own kind: clients send
/// receipts for reactions and edits too, also for those of the root.
pub(super) async fn is_related(room: &RoomView<'_>, event: &StoredEvent, root: &EventId) -> Result<bool, ReadError> {
    if event.header.event_id == root.as_str() {
        return Ok(true);
    }
    let mut target = target_of(event);
    for _ in 0..MAX_HOPS {
        let Some(event_id) = target else { return Ok(false) };
        if event_id == root.as_str() {
            return Ok(true);
        }
        target = room.target(&event_id).await?.and_then(|event| target_of(&event));
    }
    Ok(false)
}
