//! What the members of a replaced room had set for it, and get for the new one: push rules, tags, its place among their direct chats
//! (client-server API, "Room Upgrades").
//!
//! Whoever makes a room decides what it says it replaces: nothing is taken over unless the old room's tombstone names the new one.

use primitives::UserNid;
use ruma::RoomId;
use serde_json::Value;
use users::{
    StoreError,
    account_data::{AccountDataError, Content, DataKey},
    push_rules::{Owner, PushRulesError},
};

use crate::{
    local_members::{self, SomeJoined},
    outgoing::SendError,
    registry::RoomError,
    room::Room,
};

impl Room {
    /// The room that this one replaces, if both say so and both are known here.
    pub async fn predecessor(&self) -> Result<Option<Self>, SendError> {
        let create = self.state_content("m.room.create").await?;
        let Some(old) = create["predecessor"]["room_id"].as_str().and_then(|id| <&RoomId>::try_from(id).ok()) else {
            return Ok(None);
        };
        let old = match self.rooms().room(old).await {
            Ok(old) => old,
            Err(RoomError::Unknown) => return Ok(None),
            Err(RoomError::Storage(error)) => return Err(error.into()),
        };
        let tombstone = old.state_content("m.room.tombstone").await?;
        Ok(Some(old).filter(|_| tombstone["replacement_room"] == self.id().as_str()))
    }

    /// The content of a state event with an empty state key; null if there is none or it makes no sense.
    async fn state_content(&self, event_type: &str) -> Result<Value, SendError> {
        let event = self.current().await?.event(event_type, "").await?;
        Ok(event.and_then(|event| event.content_as().ok()).unwrap_or_default())
    }

    /// Gives the next local members of this room, those after a user by number and at most `limit`, what they had set for the room that it replaces.
    /// Answers with the last member looked at, if there may be more. Doing it again changes nothing.
    pub async fn give_members_settings(
        &self,
        old: &Self,
        after: Option<UserNid>,
        limit: usize,
    ) -> Result<Option<UserNid>, StoreError> {
        let SomeJoined { joined, last } =
            local_members::some(&self.context().storage.view(), self.nid(), after, limit).await?;
        for user in joined {
            self.give_settings(old, user).await?;
        }
        Ok(last)
    }

    /// Gives one local user what they had set for the room that this one replaces. Doing it again changes nothing.
    pub async fn give_settings(&self, old: &Self, user: UserNid) -> Result<(), StoreError> {
        let users = &self.context().users;
        let Some(user_id) = users.user_id(user).await? else { return Ok(()) };
        let owner = Owner { user, user_id: &user_id };
        match users.push_rules().copy_room_rules(owner, old.id(), self.id()).await {
            Err(PushRulesError::Store(error)) => return Err(error),
            Err(error) => tracing::warn!(%error, "push rules are not copied to a new room"),
            Ok(()) => {}
        }
        let tags = DataKey { user, room: Some(old.nid()), data_type: "m.tag" };
        if let Some(tags) = users.account_data().get(tags).await?.and_then(|json| serde_json::from_str(&json).ok()) {
            let key = DataKey { user, room: Some(self.nid()), data_type: "m.tag" };
            // What the user has set for the new room already is theirs.
            let tags: Content = tags;
            self.edit(key, |now| now.is_empty().then(|| tags.clone())).await?;
        }
        let direct = DataKey { user, room: None, data_type: "m.direct" };
        self.edit(direct, |direct| with_successor(direct, old.id(), self.id())).await
    }

    async fn edit(&self, key: DataKey<'_>, edit: impl FnMut(Content) -> Option<Content>) -> Result<(), StoreError> {
        match self.context().users.account_data().edit(key, edit).await {
            Err(AccountDataError::Store(error)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, data_type = key.data_type, "account data is not copied to a new room");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// The direct chats with the new room beside the old one wherever that is; `None` if nothing changes.
fn with_successor(mut direct: Content, old: &RoomId, new: &RoomId) -> Option<Content> {
    let mut changed = false;
    for rooms in direct.values_mut().filter_map(Value::as_array_mut) {
        if rooms.iter().any(|room| room == old.as_str()) && rooms.iter().all(|room| room != new.as_str()) {
            rooms.push(new.as_str().into());
            changed = true;
        }
    }
    changed.then_some(direct)
}

#[cfg(test)]
mod tests {
    use ruma::room_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_new_room_stands_beside_the_old_one_once() {
        let (old, new) = (room_id!("!old:x"), room_id!("!new:x"));
        let object = |value: Value| value.as_object().expect("an object").clone();
        let before = object(json!({ "@b:x": ["!old:x", "!other:x"], "@c:x": ["!other:x"], "@d:x": 5 }));
        let after = with_successor(before, old, new).expect("changed");
        let expected = object(json!({ "@b:x": ["!old:x", "!other:x", "!new:x"], "@c:x": ["!other:x"], "@d:x": 5 }));
        assert_eq!(after, expected);
        assert_eq!(with_successor(after, old, new), None);
        assert_eq!(with_successor(Content::new(), old, new), None);
    }
}
