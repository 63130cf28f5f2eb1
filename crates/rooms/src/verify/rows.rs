//! The room's own rows: its name, its counters, its slots, and what is kept beside its events.

use primitives::{NodeId, Rix, Slot};
use ruma::UserId;
use storage::{
    Direction, Key, KeyRange, ReadError, Table, Text,
    schema::rooms::{EventHeaders, EventJson, EventLocals, RoomIds, SlotKeys, Slots, StateNodes},
};

use super::{FaultKind, Pages, RoomCheck};
use crate::{slots::hash_of, state::FIRST_MEMBER_SLOT};

impl RoomCheck<'_> {
    /// Checks them.
    pub(super) async fn rows(&mut self) -> Result<(), ReadError> {
        let room = self.info.nid;
        if self.view.get::<RoomIds>(&(Text::new(self.name.as_str()),)).await? != Some(room) {
            self.fault(FaultKind::Room, "its id leads to another room".to_owned());
        }
        let (events, nodes) = ((room, Rix(self.head.next_rix)), (room, NodeId(self.head.next_node)));
        self.check_end::<EventHeaders>(&events).await?;
        self.check_end::<EventJson>(&events).await?;
        self.check_end::<StateNodes>(&nodes).await?;
        self.check_slots().await?;
        self.check_locals().await
    }

    /// The room has no row of a number that is still to be given out.
    async fn check_end<T: Table>(&mut self, first: &impl Key) -> Result<(), ReadError> {
        let range = KeyRange::from(&(self.info.nid,), first);
        let beyond = self.view.scan_keys::<T>(&range, 1, Direction::Forward).await?;
        if !beyond.keys.is_empty() {
            self.fault(FaultKind::Room, format!("table {} has rows beyond the room's counter", T::NAME));
        }
        Ok(())
    }

    /// The slots are dense, and each is found by what it is for.
    async fn check_slots(&mut self) -> Result<(), ReadError> {
        let room = self.info.nid;
        let others = (0..self.head.next_slot).map(Slot);
        let members = (0..self.head.next_member_slot).map(|index| Slot(FIRST_MEMBER_SLOT.0 + index));
        let mut numbers = others.chain(members);
        let mut pages = Pages::<SlotKeys>::of(KeyRange::prefix(&(room,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((_, slot), key) in page {
                let is_member = key.event_type == "m.room.member";
                if numbers.next() != Some(slot) || is_member != (slot >= FIRST_MEMBER_SLOT) {
                    self.fault(FaultKind::Slots, format!("slot {slot} is not in its place"));
                }
                let listed = self.view.get::<Slots>(&(room, hash_of(self.context.storage.hash(), &key))).await?;
                if !listed.is_some_and(|listed| listed.0.contains(&slot)) {
                    self.fault(FaultKind::Slots, format!("slot {slot} is not found by its type and state key"));
                }
            }
        }
        let missing = numbers.count();
        if missing > 0 {
            self.fault(FaultKind::Slots, format!("{missing} slots say nothing of what they are for"));
        }
        Ok(())
    }

    /// What is known of the sending of events belongs to events of this server's users.
    async fn check_locals(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<EventLocals>::of(KeyRange::prefix(&(self.info.nid,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((room, rix), _) in page {
                let header = self.view.get::<EventHeaders>(&(room, rix)).await?;
                let sender = header.and_then(|header| UserId::parse(header.value.sender).ok());
                if sender.is_none_or(|sender| sender.server_name() != self.context.options.server_name) {
                    self.fault(FaultKind::Sending, format!("event {rix} was not sent from a device here"));
                }
            }
        }
        Ok(())
    }
}
