//! Typing and presence of this server's users into the queues of the servers that are to hear of it. Receipts come with the rooms' logs.

use primitives::RoomNid;
use rooms::RoomError;
use ruma::OwnedUserId;
use serde_json::{Map, Value, json};
use users::presence::{Presence, PresenceState};

use super::{Dispatcher, OutboundError};

impl Dispatcher {
    /// Tells of those who have begun to type, go on, or have ended.
    pub(super) async fn tell_typing(&self) -> Result<(), OutboundError> {
        let rooms = &self.0.federation.rooms;
        for (nid, user) in rooms.signals().typing().take() {
            self.tell_of_typist(nid, user).await?;
        }
        Ok(())
    }

    async fn tell_of_typist(&self, nid: RoomNid, user: OwnedUserId) -> Result<(), OutboundError> {
        let rooms = &self.0.federation.rooms;
        let room = match rooms.room_by_number(nid).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Ok(()),
            Err(RoomError::Storage(error)) => return Err(error.into()),
        };
        let servers = rooms.reads().other_servers(&rooms.reads().view(), nid).await?;
        self.meet(servers.iter().cloned()).await?;
        let (key, typing) = ((room.id().to_owned(), user.clone()), room.is_typing(&user));
        let mut queues = self.0.queues.lock();
        for server in &*servers {
            queues.tell(server, |edus, most| edus.typing(key.clone(), typing, most));
        }
        Ok(())
    }

    /// Tells of those whose presence has changed, to the servers with which they share a room.
    pub(super) async fn tell_presence(&self) -> Result<(), OutboundError> {
        let (rooms, users) = (&self.0.federation.rooms, &self.0.federation.users);
        for user_id in rooms.signals().presence().take() {
            let Some(user) = users.nid(&user_id).await? else { continue };
            let servers = rooms.reads().servers_met_by(user).await?;
            if servers.is_empty() {
                continue;
            }
            let told = content(&users.presence().get(&user_id, user).await?);
            self.meet(servers.iter().cloned()).await?;
            let mut queues = self.0.queues.lock();
            for server in &servers {
                queues.tell(server, |edus, most| edus.presence(user_id.clone(), told.clone(), most));
            }
        }
        Ok(())
    }
}

/// An element of `push` (server-server API, `m.presence`).
fn content(presence: &Presence) -> Value {
    let ago = presence.last_active_ago.map_or(0, |ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
    let mut told = Map::from_iter([
        ("user_id".to_owned(), json!(presence.user_id)),
        ("presence".to_owned(), json!(presence.state.as_str())),
        ("last_active_ago".to_owned(), json!(ago)),
    ]);
    if let Some(message) = &presence.status_msg {
        told.insert("status_msg".to_owned(), json!(message));
    }
    if presence.state == PresenceState::Online {
        told.insert("currently_active".to_owned(), json!(presence.currently_active));
    }
    told.into()
}
