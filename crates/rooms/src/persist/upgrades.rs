//! Members of a room that replaces another get what they had set for the old one (client-server API, "Room Upgrades").
//!
//! That is work across rooms and users, and so a job: begun for one user who joins the new room, and for all of its members when the old room gets
//! the tombstone that names it. Whichever comes last finds the two rooms naming each other.

use primitives::{RoomNid, UserNid};
use ruma::{RoomId, UserId};
use serde_json::Value;
use storage::{
    ReadError,
    schema::{
        jobs::{self, JobKind},
        rooms::Membership,
    },
};

use super::SlotChange;
use crate::{change::Change, event_key::find_room};

impl Change {
    /// Begins the job if the changed slots replace a room, or let users into one that replaces another.
    pub(super) async fn write_upgrades(&mut self, changes: &[SlotChange]) -> Result<(), ReadError> {
        for change in changes {
            match (change.key.event_type.as_str(), change.key.state_key.as_str()) {
                ("m.room.tombstone", "") => {
                    if let Some(new) = self.replacement(change).await? {
                        self.begin_upgrade(new, jobs::EVERYBODY);
                    }
                }
                ("m.room.member", user) => {
                    if let Some(user) = self.newcomer(change, user).await? {
                        self.begin_upgrade(self.memory.info.nid, user);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn begin_upgrade(&mut self, room: RoomNid, user: UserNid) {
        jobs::begin(&mut self.batch, JobKind::UPGRADE, &(room, user));
        self.begins_job = true;
    }

    /// The room that a new tombstone names, if it is known here.
    async fn replacement(&self, change: &SlotChange) -> Result<Option<RoomNid>, ReadError> {
        let Some(rix) = change.new else { return Ok(None) };
        let content: Value = self.event(rix).await?.pdu.content_as().unwrap_or_default();
        let Some(new) = content["replacement_room"].as_str().and_then(|id| <&RoomId>::try_from(id).ok()) else {
            return Ok(None);
        };
        Ok(find_room(&self.view, new).await?.map(|(nid, _)| nid))
    }

    /// The local user whom a change lets into this room for the first time, if the room says that it replaces another.
    async fn newcomer(&mut self, change: &SlotChange, user: &str) -> Result<Option<UserNid>, ReadError> {
        let Some(rix) = change.new else { return Ok(None) };
        let Ok(user) = <&UserId>::try_from(user) else { return Ok(None) };
        let Some(nid) = self.context.user_nid(user).await? else { return Ok(None) };
        let before = match change.old {
            Some(rix) => self.header(rix).await?.membership,
            None => None,
        };
        let was_never_in = matches!(before, None | Some(Membership::Invite | Membership::Knock));
        if !was_never_in || self.header(rix).await?.membership != Some(Membership::Join) {
            return Ok(None);
        }
        let create = self.current("m.room.create", "").await?;
        let content: Value = create.and_then(|create| create.pdu.content_as().ok()).unwrap_or_default();
        Ok(content["predecessor"]["room_id"].is_string().then_some(nid))
    }
}
