//! The tables that rooms share: numbers by id, memberships by user, aliases, receipts, account data, transactions.

use ruma::EventId;
use storage::{
    ReadError, Table, Text,
    schema::{
        account_data::AccountData,
        jobs::StagedRooms,
        receipts::Receipts,
        rooms::{Aliases, EventHeaders, EventIds, LocalMembers, Memberships, RoomAliases, RoomHeads, RoomIds, Rooms},
        users::Transactions,
    },
};

use super::{FaultKind, Pages, StoreCheck};
use crate::event_key::event_key;

impl StoreCheck {
    /// Checks them.
    pub(super) async fn shared(&mut self) -> Result<(), ReadError> {
        let checked = self.room_ids().await;
        self.read::<RoomIds>(checked)?;
        let checked = self.staged_rooms().await;
        self.read::<StagedRooms>(checked)?;
        let checked = self.event_ids().await;
        self.read::<EventIds>(checked)?;
        let checked = self.memberships().await;
        self.read::<Memberships>(checked)?;
        let checked = self.aliases().await;
        self.read::<Aliases>(checked)?;
        let checked = self.receipts().await;
        self.read::<Receipts>(checked)?;
        let checked = self.account_data().await;
        self.read::<AccountData>(checked)?;
        let checked = self.transactions().await;
        self.read::<Transactions>(checked)
    }

    fn read<T: Table>(&mut self, checked: Result<(), ReadError>) -> Result<(), ReadError> {
        self.report.readable(&format!("table {}", T::NAME), checked).map(drop)
    }

    pub(super) fn table_fault<T: Table>(&mut self, kind: FaultKind, what: String) {
        self.report.fault(&format!("table {}", T::NAME), kind, what);
    }

    async fn room_ids(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<RoomIds>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((Text(id),), nid) in page {
                if self.view.get::<Rooms>(&(nid,)).await?.is_none_or(|room| room.room_id != id) {
                    self.table_fault::<RoomIds>(FaultKind::Room, format!("{id} leads to room {nid}, which is another"));
                }
            }
        }
        Ok(())
    }

    /// A room that is being put together has counters, and is found by nobody.
    async fn staged_rooms(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<StagedRooms>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((id,), nid) in page {
                self.report.staged += 1;
                let has_head = self.view.contains::<RoomHeads>(&(nid,)).await?;
                if !has_head
                    || self.view.contains::<Rooms>(&(nid,)).await?
                    || self.view.contains::<RoomIds>(&(id,)).await?
                {
                    let what = format!("room {nid} is being put together, and is there or has no head");
                    self.table_fault::<StagedRooms>(FaultKind::Room, what);
                }
            }
        }
        Ok(())
    }

    /// An id leads to an event that has it. What leads to a room that is being purged is on its way out.
    async fn event_ids(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<EventIds>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((key,), place) in page {
                let header = self.view.get::<EventHeaders>(&(place.room, place.rix)).await?;
                let id = header.and_then(|header| EventId::parse(header.value.event_id).ok());
                if id.is_some_and(|id| event_key(&id) == key) {
                    continue;
                }
                if self.view.get::<RoomHeads>(&(place.room,)).await?.is_none_or(|head| !head.purging) {
                    let what = format!("an id leads to event {} of room {}, which has another", place.rix, place.room);
                    self.table_fault::<EventIds>(FaultKind::EventId, what);
                }
            }
        }
        Ok(())
    }

    async fn memberships(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<Memberships>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((user, room), row) in page {
                if self.view.get::<LocalMembers>(&(room, user)).await? != Some(row.value.membership) {
                    let what = format!("user {user} is {} in room {room}", row.value.membership.as_str());
                    self.table_fault::<Memberships>(FaultKind::Members, format!("{what} in the user's rows only"));
                }
            }
        }
        Ok(())
    }

    async fn aliases(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<Aliases>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((alias,), row) in page {
                let key = (Text::new(row.room_id.as_str()), alias.clone());
                if !self.view.contains::<RoomAliases>(&key).await? {
                    self.table_fault::<Aliases>(
                        FaultKind::Aliases,
                        format!("{} does not know {}", row.room_id, alias.0),
                    );
                }
            }
        }
        let mut pages = Pages::<RoomAliases>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((room, alias), ()) in page {
                if self.view.get::<Aliases>(&(alias.clone(),)).await?.is_none_or(|row| row.room_id != room.0) {
                    self.table_fault::<Aliases>(FaultKind::Aliases, format!("{} does not lead to {}", alias.0, room.0));
                }
            }
        }
        Ok(())
    }

    /// A transaction that was answered with an event has the event (I11).
    async fn transactions(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<Transactions>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for (_, row) in page {
                let Ok(id) = EventId::parse(row.result) else { continue };
                if !self.view.contains::<EventIds>(&(event_key(&id),)).await? {
                    self.table_fault::<Transactions>(
                        FaultKind::Sending,
                        format!("{id} was answered and is not stored"),
                    );
                }
            }
        }
        Ok(())
    }
}
