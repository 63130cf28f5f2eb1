//! What a change of members means for local users and for the servers in the room.

use primitives::{Slot, StreamPosition, UserNid};
use ruma::UserId;
use storage::{
    Positioned, ReadError, Text,
    schema::rooms::{
        LocalMembers, Membership, MembershipRow, Memberships, OutOfBand, RoomServerSlots, UserLog, UserLogEntry,
    },
};

use super::SlotChange;
use crate::change::Change;

impl Change {
    /// Writes the rows of the members among the changed slots.
    pub(super) async fn write_members(&mut self, changes: &[SlotChange]) -> Result<(), ReadError> {
        for change in changes.iter().filter(|change| change.key.event_type == "m.room.member") {
            self.members_changed = true;
            let Ok(user) = <&UserId>::try_from(change.key.state_key.as_str()) else { continue };
            if user.server_name() != self.context.options.server_name {
                self.write_server_slot(user, change.slot, change.old.is_none());
            } else if let Some(nid) = self.context.user_nid(user).await? {
                self.write_local_member(nid, change).await?;
            }
        }
        Ok(())
    }

    /// Announced before it is visible, as whoever sends to other servers takes a room without such a row for one of ours alone.
    pub(crate) fn write_server_slot(&mut self, user: &UserId, slot: Slot, is_new: bool) {
        if is_new {
            self.context.activity.meets_others(self.memory.info.nid);
            let key = (self.memory.info.nid, Text::new(user.server_name().as_str()), slot);
            self.batch.put::<RoomServerSlots>(&key, &());
        }
    }

    /// The user's membership as of this change; a member event that resolution took away without putting another in its place counts as
    /// having left.
    async fn write_local_member(&mut self, user: UserNid, change: &SlotChange) -> Result<(), ReadError> {
        let room = self.memory.info.nid;
        let before = match change.old {
            Some(rix) => self.header(rix).await?.membership,
            None => None,
        };
        let (rix, membership) = match (change.new, change.old) {
            (Some(rix), _) => (rix, self.header(rix).await?.membership.unwrap_or(Membership::Leave)),
            (None, Some(rix)) => (rix, Membership::Leave),
            (None, None) => return Ok(()),
        };
        let row = MembershipRow { membership, rix, forgotten: false };
        let entry = UserLogEntry::Membership { room, membership, rix, before };
        self.batch
            .put::<Memberships>(&(user, room), &Positioned::pending(row))
            .put::<LocalMembers>(&(room, user), &membership)
            // What came from outside the room ends where the room's own events speak of the user.
            .delete::<OutOfBand>(&(user, room))
            .put::<UserLog>(&(user, StreamPosition::PENDING, self.user_log_rows), &entry);
        self.user_log_rows += 1;
        self.memory.local.insert(user, membership);
        self.affected.insert(user);
        Ok(())
    }
}
