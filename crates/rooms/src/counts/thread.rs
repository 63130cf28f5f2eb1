//! Of which thread an event is (client-server API, "Marking notifications as read").

use storage::ReadError;

use crate::{
    read::{MAX_HOPS, RoomView, target_of},
    render::StoredEvent,
};

/// The root of the thread that an event is of, by its own relation or by that of an event that it relates to; `None` if it is of none. What a
/// redaction took away still counts, so that an event stays in its thread.
pub(super) async fn root_of(room: &RoomView<'_>, event: &StoredEvent) -> Result<Option<String>, ReadError> {
    let mut relation = relation(event);
    for hop in 0..=MAX_HOPS {
        let Some((rel_type, target)) = relation else { return Ok(None) };
        if &*rel_type == "m.thread" {
            return Ok(Some(target));
        }
        if hop == MAX_HOPS {
            break;
        }
        relation = room.target(&target).await?.and_then(|event| self::relation(&event));
    }
    Ok(None)
}

fn relation(event: &StoredEvent) -> Option<(Box<str>, String)> {
    // Most events relate to none, which is known without reading them again.
    let rel_type = event.facts().rel_type?;
    Some((rel_type.into(), target_of(event)?))
}
