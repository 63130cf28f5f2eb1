//! What helps to name a room: heroes and counts (specification, "Calculating the display name for a room").

use primitives::{NodeId, Slot};
use ruma::UserId;
use serde::Deserialize;
use storage::{ReadError, schema::rooms::Membership};

use super::{RoomSummary, state_part::is_present};
use crate::{
    read::{Reader, Reads, RoomView},
    state::Entry,
};

/// How many members a room is named after.
const HEROES: usize = 5;

impl Reads {
    /// The summary of a state for a reader.
    pub(super) async fn summary(
        &self,
        room: &RoomView<'_>,
        reader: &Reader,
        root: NodeId,
    ) -> Result<RoomSummary, ReadError> {
        let (joined_member_count, invited_member_count) = room.counts(root).await?;
        let heroes = if has_name(room, root).await? { None } else { Some(hero_ids(room, reader, root).await?) };
        Ok(RoomSummary { heroes, joined_member_count, invited_member_count })
    }
}

/// The ids of [`heroes`].
async fn hero_ids(room: &RoomView<'_>, reader: &Reader, root: NodeId) -> Result<Vec<String>, ReadError> {
    let mut ids = Vec::with_capacity(HEROES);
    for (slot, _) in heroes(room, &reader.user_id, root).await? {
        ids.push(room.slot_key(slot).await?.state_key.clone());
    }
    Ok(ids)
}

/// Whether a state gives the room a name or a canonical alias.
pub(crate) async fn has_name(room: &RoomView<'_>, root: NodeId) -> Result<bool, ReadError> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Content {
        name: Option<String>,
        alias: Option<String>,
    }
    for event_type in ["m.room.name", "m.room.canonical_alias"] {
        let Some(rix) = room.state_at(root, event_type, "").await? else { continue };
        let content = room.event(rix).await?.and_then(|event| event.content_as::<Content>()).unwrap_or_default();
        if [content.name, content.alias].into_iter().flatten().any(|text| !text.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The first members, in the order in which the room came to know them, without the reader: those who are there or invited; if there are
/// none, those who were.
pub(crate) async fn heroes(
    room: &RoomView<'_>,
    reader: &UserId,
    root: NodeId,
) -> Result<Vec<(Slot, Entry)>, ReadError> {
    let own = room.slot("m.room.member", reader.as_str()).await?;
    let mut members = room.members(root, |entry| is_present(entry.membership)).await?;
    members.retain(|(slot, _)| Some(*slot) != own);
    if members.is_empty() {
        members = room
            .members(root, |entry| !is_present(entry.membership) && entry.membership != Some(Membership::Knock))
            .await?;
        members.retain(|(slot, _)| Some(*slot) != own);
    }
    members.truncate(HEROES);
    Ok(members)
}
