//! The slots of a room: dense numbers for its (type, state key) pairs.

use primitives::{KeyedHash, RoomNid, Slot};
use storage::{
    ReadError, View,
    schema::rooms::{SlotKey, SlotKeys, SlotList, Slots},
};

use crate::{change::Change, state::FIRST_MEMBER_SLOT};

/// The key of [`Slots`] for a type and state key.
pub(crate) fn hash_of(hash: KeyedHash, key: &SlotKey) -> [u8; 8] {
    hash.hash8(&[key.event_type.as_bytes(), key.state_key.as_bytes()])
}

/// The slot of a type and state key, if the room has given it one.
pub(crate) async fn find(
    view: &View,
    hash: KeyedHash,
    room: RoomNid,
    key: &SlotKey,
) -> Result<Option<Slot>, ReadError> {
    let Some(list) = view.get::<Slots>(&(room, hash_of(hash, key))).await? else { return Ok(None) };
    for slot in list.0 {
        if view.get::<SlotKeys>(&(room, slot)).await?.as_ref() == Some(key) {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

impl Change {
    /// The slot of a type and state key; a new one if it has none yet.
    pub(crate) async fn slot(&mut self, key: &SlotKey) -> Result<Slot, ReadError> {
        if let Some(slot) = self.find_slot(key).await? {
            return Ok(slot);
        }
        let head = &mut self.memory.head;
        let slot = if key.event_type == "m.room.member" {
            head.next_member_slot += 1;
            Slot(FIRST_MEMBER_SLOT.0 + head.next_member_slot - 1)
        } else {
            head.next_slot += 1;
            Slot(head.next_slot - 1)
        };
        let room = self.memory.info.nid;
        let hashed = (room, hash_of(self.context.storage.hash(), key));
        let mut list = self.new_slots.get(&hashed.1).cloned();
        if list.is_none() && self.memory.stored.is_some() {
            list = self.view.get::<Slots>(&hashed).await?;
        }
        let SlotList(mut slots) = list.unwrap_or_default();
        slots.push(slot);
        let list = SlotList(slots);
        self.batch.put::<Slots>(&hashed, &list).put::<SlotKeys>(&(room, slot), key);
        self.new_slots.insert(hashed.1, list);
        self.new_slot_keys.insert(slot, key.clone());
        self.memory.slots.insert(key.clone(), slot);
        Ok(slot)
    }

    /// The type and state key of a slot.
    pub(crate) async fn slot_key(&self, slot: Slot) -> Result<SlotKey, ReadError> {
        if let Some(key) = self.new_slot_keys.get(&slot) {
            return Ok(key.clone());
        }
        let room = self.memory.info.nid;
        let key = self.view.get::<SlotKeys>(&(room, slot)).await?;
        key.ok_or_else(|| crate::load::corrupt::<SlotKeys>(format!("no slot {slot} in room {room}")))
    }
}
