//! Who is in the room, as users' own rows say it, against the current state.

use std::collections::BTreeMap;

use primitives::{RoomNid, Slot, UserNid};
use ruma::UserId;
use storage::{
    KeyRange, ReadError, Text,
    schema::rooms::{EventHeaders, LocalMembers, Membership, Memberships, RoomServerSlots, UserLog, UserLogEntry},
};

use super::{FaultKind, Pages, RoomCheck, state::Member};
use crate::{context::read_error, state::is_member_slot};

impl RoomCheck<'_> {
    /// Rows for every member of the current state that is a user here, and for no other.
    pub(super) async fn members(&mut self, members: Vec<Member>) -> Result<(), ReadError> {
        let mut rows = self.local_rows().await?;
        for member in members {
            let Ok(user) = <&UserId>::try_from(member.user_id.as_str()) else { continue };
            if user.server_name() != self.context.options.server_name {
                self.check_remote(user, member.slot).await?;
            } else if let Some(nid) = self.context.user_nid(user).await? {
                self.check_local(nid, &member, rows.remove(&nid)).await?;
            }
        }
        for (user, membership) in rows {
            // A member event that resolution took away counts as having left.
            if membership != Membership::Leave {
                self.fault(
                    FaultKind::Members,
                    format!("user {user} is {}, and the state does not say so", membership.as_str()),
                );
            }
        }
        self.check_server_slots().await
    }

    async fn local_rows(&mut self) -> Result<BTreeMap<UserNid, Membership>, ReadError> {
        let mut rows = BTreeMap::new();
        let mut pages = Pages::<LocalMembers>::of(KeyRange::prefix(&(self.info.nid,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((_, user), membership) in page {
                let row = self.view.get::<Memberships>(&(user, self.info.nid)).await?;
                if row.as_ref().is_none_or(|row| row.value.membership != membership) {
                    let what = format!("user {user} is {} in the room's rows only", membership.as_str());
                    self.fault(FaultKind::Members, what);
                }
                rows.insert(user, membership);
            }
        }
        Ok(rows)
    }

    async fn check_local(&mut self, nid: UserNid, member: &Member, local: Option<Membership>) -> Result<(), ReadError> {
        let Member { user_id, rix, membership, .. } = member;
        let row = self.view.get::<Memberships>(&(nid, self.info.nid)).await?;
        let Some(row) = row.filter(|row| row.value.rix == *rix && local == Some(*membership)) else {
            if local.is_some() || !self.came_later(nid, member).await? {
                self.fault(FaultKind::Members, format!("{user_id} is {} in the state only", membership.as_str()));
            }
            return Ok(());
        };
        let mut pages = Pages::<UserLog>::of(KeyRange::prefix(&(nid, row.position)));
        let mut logged = false;
        while let Some(page) = pages.next(self.view).await? {
            logged |= page.iter().any(|(_, entry)| is_entry(entry, self.info.nid, member));
        }
        if !logged {
            self.fault(FaultKind::Members, format!("{user_id} was never told of being {}", membership.as_str()));
        }
        Ok(())
    }

    /// Whether the account was made after the member event: nobody knew then that there would be one.
    async fn came_later(&self, nid: UserNid, member: &Member) -> Result<bool, ReadError> {
        let header = self.view.get::<EventHeaders>(&(self.info.nid, member.rix)).await?;
        let account = self.context.users.account(nid).await.map_err(read_error)?;
        let sent = header.map(|header| header.value.origin_server_ts);
        Ok(account.zip(sent).is_some_and(|(account, sent)| account.created.0 > sent))
    }

    async fn check_remote(&mut self, user: &UserId, slot: Slot) -> Result<(), ReadError> {
        let key = (self.info.nid, Text::new(user.server_name().as_str()), slot);
        if !self.view.contains::<RoomServerSlots>(&key).await? {
            self.fault(FaultKind::Members, format!("the slot of {user} is not among its server's"));
        }
        Ok(())
    }

    /// Every slot that is kept for a server is that of one of its users.
    async fn check_server_slots(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<RoomServerSlots>::of(KeyRange::prefix(&(self.info.nid,)));
        while let Some(page) = pages.next(self.view).await? {
            for ((_, Text(server), slot), ()) in page {
                let read = self.change.slot_key(slot).await;
                let Some(key) = self.readable(read)? else { continue };
                let user = <&UserId>::try_from(key.state_key.as_str());
                if !is_member_slot(slot) || !user.is_ok_and(|user| user.server_name().as_str() == server) {
                    self.fault(FaultKind::Members, format!("slot {slot} is not of a user of {server}"));
                }
            }
        }
        Ok(())
    }
}

fn is_entry(entry: &UserLogEntry, room: RoomNid, member: &Member) -> bool {
    matches!(entry, UserLogEntry::Membership { room: of, membership, rix, .. }
        if *of == room && *membership == member.membership && *rix == member.rix)
}
