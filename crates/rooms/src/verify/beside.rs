//! What is no event: receipts and account data, each with its one place in the log that tells of it (I10).

use storage::{
    ReadError, Text,
    schema::{
        account_data::{AccountData, GLOBAL},
        receipts::{ReceiptLog, ReceiptLogRow, Receipts},
        rooms::{UserLog, UserLogEntry},
    },
};

use super::{FaultKind, Pages, StoreCheck};

impl StoreCheck {
    /// A receipt is told of where it says, and nowhere else.
    pub(super) async fn receipts(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<Receipts>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((room, Text(user_id), kind, Text(thread)), row) in page {
                let told = self.view.get::<ReceiptLog>(&(room, row.position, row.value.log_index)).await?;
                let what = format!("the receipt of {user_id} in room {room} is not in the log");
                if told != Some(ReceiptLogRow { user_id, kind, thread }) {
                    self.table_fault::<Receipts>(FaultKind::Log, what);
                }
            }
        }
        let mut pages = Pages::<ReceiptLog>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((room, position, index), told) in page {
                let key = (room, Text::new(&*told.user_id), told.kind, Text::new(told.thread));
                let row = self.view.get::<Receipts>(&key).await?;
                if row.is_none_or(|row| (row.position, row.value.log_index) != (position, index)) {
                    let what = format!("the log has a receipt of {} in room {room} at {position}", told.user_id);
                    self.table_fault::<ReceiptLog>(FaultKind::Log, format!("{what}, where it is not"));
                }
            }
        }
        Ok(())
    }

    /// A piece of account data is told of where it says. Of a user who has gone, the log may tell of data that went too.
    pub(super) async fn account_data(&mut self) -> Result<(), ReadError> {
        let mut pages = Pages::<AccountData>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((user, room, Text(data_type)), row) in page {
                let told = self.view.get::<UserLog>(&(user, row.position, row.value.log_index)).await?;
                let room = Some(room).filter(|room| *room != GLOBAL);
                let what = format!("{data_type} of user {user} is not in the log");
                if told != Some(UserLogEntry::AccountData { room, data_type }) {
                    self.table_fault::<AccountData>(FaultKind::Log, what);
                }
            }
        }
        let mut pages = Pages::<UserLog>::all();
        while let Some(page) = pages.next(&self.view).await? {
            for ((user, position, index), entry) in page {
                let UserLogEntry::AccountData { room, data_type } = entry else { continue };
                let key = (user, room.unwrap_or(GLOBAL), Text::new(&*data_type));
                let row = self.view.get::<AccountData>(&key).await?;
                if row.is_some_and(|row| (row.position, row.value.log_index) != (position, index)) {
                    let what = format!("the log has {data_type} of user {user} at {position}, where it is not");
                    self.table_fault::<AccountData>(FaultKind::Log, what);
                }
            }
        }
        Ok(())
    }
}
