//! What users do once the network is good again: one of each server reads the room back to its beginning.

use rooms::{
    Reader,
    filter::RoomEventFilter,
    read::{MessagesRequest, PageDirection},
};
use ruma::OwnedEventId;

use super::Simulation;

/// Pages that a room has at most.
const MAX_PAGES: usize = 500;
/// Events of a page.
const PAGE: u64 = 30;

impl Simulation {
    /// Everything that the first user of a server can read, newest first.
    pub(super) async fn read_back(&self, at: usize) -> Result<Vec<OwnedEventId>, String> {
        let (server, user_id) = (&self.servers[at], self.anchors[at].clone());
        let user_nid = server.parts.users.nid(&user_id).await.map_err(|error| error.to_string())?;
        let reader = Reader { user_id, user_nid: user_nid.expect("an anchor has an account"), device_id: None };
        let (mut from, mut ids) = (None, Vec::new());
        for _ in 0..MAX_PAGES {
            let (direction, filter) = (PageDirection::Backward, RoomEventFilter::default());
            let request = MessagesRequest { direction, from, to: None, limit: Some(PAGE), filter };
            let page = server.parts.rooms.messages(&reader, &self.room_id, request).await;
            let page = page.map_err(|error| format!("{}: {error}", server.name))?;
            for event in page.chunk {
                let id = OwnedEventId::try_from(event.event.header.event_id.as_str());
                ids.push(id.map_err(|error| error.to_string())?);
            }
            match page.end {
                Some(end) => from = Some(end),
                None => return Ok(ids),
            }
        }
        Err(format!("{}: pages without end", server.name))
    }
}
