//! What an event relates to, followed from event to event.

use std::sync::Arc;

use ruma::EventId;
use serde::Deserialize;
use storage::ReadError;

use super::RoomView;
use crate::render::StoredEvent;

/// How many relations are followed to find a thread.
pub(crate) const MAX_HOPS: usize = 3;

/// The id of the event that an event relates to, of whatever kind the relation is. Nobody has checked that it is one.
pub(crate) fn target_of(event: &StoredEvent) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.relates_to")]
        relates_to: RelatesTo,
    }
    #[derive(Deserialize)]
    struct RelatesTo {
        event_id: String,
    }
    event.content_as::<Content>().map(|content| content.relates_to.event_id)
}

impl RoomView<'_> {
    /// The event of this room that a relation names, if it is one and is stored.
    pub(crate) async fn target(&self, event_id: &str) -> Result<Option<Arc<StoredEvent>>, ReadError> {
        let Ok(event_id) = <&EventId>::try_from(event_id) else { return Ok(None) };
        match self.find_event(event_id).await? {
            Some(rix) => self.event(rix).await,
            None => Ok(None),
        }
    }
}
