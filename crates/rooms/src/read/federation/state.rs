//! The state before an event, for other servers.

use ruma::EventId;
use storage::schema::rooms::EventKind;

use super::{EventSeries, ServeError, ServedRoom};
use crate::partial::Period;

/// A state with its auth chain.
#[derive(Clone, Debug)]
pub struct ServedState {
    /// The state events.
    pub state: EventSeries,
    /// The events in their auth chains, oldest first. Some may be in the state too.
    pub auth_chain: EventSeries,
}

impl ServedRoom {
    /// The state before an event (`GET /state/{roomId}`, `GET /state_ids/{roomId}`).
    ///
    /// # Errors
    /// Not found: also an event that was rejected, or whose place in the room is not known here. Forbidden while the state is partial.
    pub async fn state_before(&self, event_id: &EventId) -> Result<ServedState, ServeError> {
        let room = self.room_view().await?;
        // What is known of a partial state is not the state.
        if Period::open(room.view, room.nid).await?.is_some() {
            return Err(ServeError::Forbidden);
        }
        let anchor = self.anchor(&room, event_id).await?;
        if anchor.header.kind == EventKind::Outlier {
            return Err(ServeError::NotFound);
        }
        let root = anchor.header.root_before;
        let mut entries = room.others(root).await?;
        entries.extend(room.members(root, |_| true).await?);
        let mut state: Vec<_> = entries.into_iter().map(|(_, entry)| entry.rix).collect();
        state.sort_unstable();
        let auth_chain = room.auth_chain(state.iter().copied()).await?;
        let series = |rixes| EventSeries::new(self.reads.clone(), self.room, rixes);
        Ok(ServedState { state: series(state), auth_chain: series(auth_chain) })
    }
}
