//! Account data: what clients keep with an account, for the whole of it or for a room (specification, "Client Config"), and its deletion
//! (MSC3391).
//!
//! A piece of data has one row, and the row one place in the user's log, which moves with every change: nothing is kept of what it was before.
//! Deleted data stays as a row without content, so that a client that comes back later hears of it.

use primitives::{RoomNid, StreamPosition, UserNid};
use ruma::DeviceId;
use serde_json::{Map, Value};
use storage::{
    Batch, Direction, KeyRange, Positioned, ReadError, Storage, Text, View,
    schema::{
        account_data::{self as tables, AccountDataRow, GLOBAL},
        rooms::{UserLog, UserLogEntry},
    },
};

use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    options::AccountDataSizes,
    wakeups::Wakeups,
};

/// The content of a piece of account data.
pub type Content = Map<String, Value>;

/// The longest type, in bytes.
pub const MAX_TYPE_BYTES: usize = 255;

/// Types that only the server itself sets; clients set them by other means.
const MANAGED: [&str; 2] = ["m.fully_read", "m.push_rules"];

/// What the settings of one device begin with: they go with the device (MSC3890).
const DEVICE_SETTINGS: [&str; 2] =
    ["m.local_notification_settings.", "org.matrix.msc3890.local_notification_settings."];

/// Rows of the user's log that are account data have indices from here on, so that they never meet others' of the same batch.
const FIRST_LOG_INDEX: u16 = 0x8000;

/// Rows that one page of a scan reads: few enough to be read where the request is.
const PAGE: usize = 500;

/// Why account data is not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountDataError {
    /// Only the server itself sets data of this type.
    #[error("{0} can't be set as account data")]
    Managed(&'static str),
    /// A type is empty or longer than [`MAX_TYPE_BYTES`].
    #[error("a type has 1 to {MAX_TYPE_BYTES} bytes")]
    BadType,
    /// The content is larger than this server allows.
    #[error("account data can have at most {0} bytes")]
    TooLarge(usize),
    /// There are as many types as this server allows.
    #[error("at most {0} types of account data")]
    TooMany(usize),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for AccountDataError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}

/// Which piece of account data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataKey<'a> {
    /// Whose.
    pub user: UserNid,
    /// Of which room; `None`: of none.
    pub room: Option<RoomNid>,
    /// Its type.
    pub data_type: &'a str,
}

impl DataKey<'_> {
    fn row(&self) -> (UserNid, RoomNid, Text) {
        (self.user, self.room.unwrap_or(GLOBAL), Text::new(self.data_type))
    }
}

/// The account data of all users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AccountData {
    storage: Storage,
    wakeups: Wakeups,
    sizes: AccountDataSizes,
}

impl AccountData {
    pub(crate) fn new(storage: Storage, wakeups: Wakeups, sizes: AccountDataSizes) -> Self {
        Self { storage, wakeups, sizes }
    }

    /// The content as JSON; none if it was never set or has been deleted.
    pub async fn get(&self, key: DataKey<'_>) -> Result<Option<String>, StoreError> {
        Ok(Self::read(&self.storage.view(), key).await?)
    }

    /// The same as a view shows it.
    pub async fn read(view: &View, key: DataKey<'_>) -> Result<Option<String>, ReadError> {
        Ok(view.get::<tables::AccountData>(&key.row()).await?.and_then(|row| row.value.content))
    }

    /// The position at which data was set or deleted last, as a view shows it.
    pub(crate) fn position(view: &View, key: DataKey<'_>) -> Result<Option<StreamPosition>, ReadError> {
        let front = |row: &[u8]| row.first_chunk().map(|position| StreamPosition(u64::from_be_bytes(*position)));
        Ok(view.read_now::<tables::AccountData, _>(&key.row(), front)?.flatten())
    }

    /// All data of a room, or of none, as a view shows it: types and contents, without what has been deleted.
    pub async fn read_all(
        view: &View,
        user: UserNid,
        room: Option<RoomNid>,
    ) -> Result<Vec<(String, String)>, ReadError> {
        let (mut all, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(user, room.unwrap_or(GLOBAL)))));
        while let Some(range) = rest {
            let page = view.scan::<tables::AccountData>(&range, PAGE, Direction::Forward).await?;
            let there = page
                .rows
                .into_iter()
                .filter_map(|((_, _, Text(data_type)), row)| row.value.content.map(|content| (data_type, content)));
            all.extend(there);
            rest = page.rest;
        }
        Ok(all)
    }

    /// Sets a client's data. An empty content deletes it (MSC3391).
    pub async fn set(&self, key: DataKey<'_>, content: &Content) -> Result<(), AccountDataError> {
        if let Some(managed) = MANAGED.into_iter().find(|managed| *managed == key.data_type) {
            return Err(AccountDataError::Managed(managed));
        }
        self.edit(key, |_| Some(content.clone())).await
    }

    /// Changes data as `edit` says: from what it is, empty if it isn't there, to what it is to be, empty for nothing; `None` leaves it as it is.
    /// Called again if the data changes meanwhile.
    pub async fn edit(
        &self,
        key: DataKey<'_>,
        mut edit: impl FnMut(Content) -> Option<Content>,
    ) -> Result<(), AccountDataError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.storage.view();
            let now = Self::read(&view, key).await?;
            let Some(content) = edit(now.map(|json| parse(&json)).unwrap_or_default()) else { return Ok(()) };
            let Some(batch) = self.change(&view, key, &content).await? else { return Ok(()) };
            if let Outcome::Done(position) = outcome(self.storage.commit(batch).await)? {
                self.wakeups.wake(key.user, position);
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// One change as a batch that conflicts if the data has changed since the view; `None` if there is nothing to delete. At most one change of
    /// a user's account data is in one commit. Whoever commits it wakes the user.
    pub async fn change(
        &self,
        view: &View,
        key: DataKey<'_>,
        content: &Content,
    ) -> Result<Option<Batch>, AccountDataError> {
        if key.data_type.is_empty() || key.data_type.len() > MAX_TYPE_BYTES {
            return Err(AccountDataError::BadType);
        }
        let row = view.get::<tables::AccountData>(&key.row()).await?;
        let mut batch = Batch::new();
        if content.is_empty() {
            let there = row.filter(|row| row.value.content.is_some());
            return Ok(there.map(|row| {
                write(&mut batch, key, Some(&row), None, FIRST_LOG_INDEX);
                batch
            }));
        }
        let json = Value::Object(content.clone()).to_string();
        if json.len() > self.sizes.max_bytes {
            return Err(AccountDataError::TooLarge(self.sizes.max_bytes));
        }
        if row.is_none() {
            self.make_room(view, key, &mut batch).await?;
        }
        write(&mut batch, key, row.as_ref(), Some(json), FIRST_LOG_INDEX);
        Ok(Some(batch))
    }

    /// Takes the oldest deleted data out if there is no room for another type beside what there is.
    async fn make_room(&self, view: &View, key: DataKey<'_>, batch: &mut Batch) -> Result<(), AccountDataError> {
        let range = KeyRange::prefix(&(key.user, key.room.unwrap_or(GLOBAL)));
        let max = self.sizes.max_types;
        if view.scan_keys::<tables::AccountData>(&range, max, Direction::Forward).await?.keys.len() < max {
            return Ok(());
        }
        let (mut oldest, mut rest) = (None::<(Text, Positioned<AccountDataRow>)>, Some(range));
        while let Some(range) = rest {
            let page = view.scan::<tables::AccountData>(&range, PAGE, Direction::Forward).await?;
            let deleted = page.rows.into_iter().filter(|(_, row)| row.value.content.is_none());
            let first = deleted.map(|((_, _, data_type), row)| (data_type, row)).min_by_key(|(_, row)| row.position);
            oldest = oldest.into_iter().chain(first).min_by_key(|(_, row)| row.position);
            rest = page.rest;
        }
        let (Text(data_type), row) = oldest.ok_or(AccountDataError::TooMany(max))?;
        let gone = DataKey { data_type: &data_type, ..key };
        batch.assert_equals::<tables::AccountData>(&gone.row(), &row).delete::<tables::AccountData>(&gone.row());
        batch.delete::<UserLog>(&(key.user, row.position, row.value.log_index));
        Ok(())
    }

    /// Deletes what a device has kept for itself, with the device. `written` counts the changes of the batch.
    pub(crate) async fn delete_of_device(
        view: &View,
        batch: &mut Batch,
        user: UserNid,
        device: &DeviceId,
        written: &mut u16,
    ) -> Result<(), ReadError> {
        for prefix in DEVICE_SETTINGS {
            let data_type = format!("{prefix}{device}");
            let key = DataKey { user, room: None, data_type: &data_type };
            let row = view.get::<tables::AccountData>(&key.row()).await?;
            if let Some(row) = row.filter(|row| row.value.content.is_some()) {
                write(batch, key, Some(&row), None, FIRST_LOG_INDEX + *written);
                *written += 1;
            }
        }
        Ok(())
    }

    /// Deletes all data of a user.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete_prefix::<tables::AccountData>(&(user,));
    }
}

/// The rows of one change.
fn write(
    batch: &mut Batch,
    key: DataKey<'_>,
    old: Option<&Positioned<AccountDataRow>>,
    content: Option<String>,
    log_index: u16,
) {
    let row = key.row();
    batch.assert_unchanged::<tables::AccountData>(&row, old);
    if let Some(old) = old {
        batch.delete::<UserLog>(&(key.user, old.position, old.value.log_index));
    }
    let entry = UserLogEntry::AccountData { room: key.room, data_type: key.data_type.to_owned() };
    batch.put::<tables::AccountData>(&row, &Positioned::pending(AccountDataRow { content, log_index }));
    batch.put::<UserLog>(&(key.user, StreamPosition::PENDING, log_index), &entry);
}

fn parse(json: &str) -> Content {
    serde_json::from_str(json).expect("account data is stored as JSON objects")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        AccountDataSizes, News, Options,
        testing::{World, device, options},
    };

    fn content(value: &Value) -> Content {
        value.as_object().expect("an object").clone()
    }

    fn key(user: UserNid, data_type: &str) -> DataKey<'_> {
        DataKey { user, room: None, data_type }
    }

    /// The rows of the user's log that tell of account data: rooms and types.
    async fn log(world: &World, user: UserNid) -> Vec<(Option<RoomNid>, String)> {
        let range = KeyRange::prefix(&(user,));
        let page = world.storage.view().scan::<UserLog>(&range, 100, Direction::Forward).await.expect("read");
        let told = page.rows.into_iter().filter_map(|(_, entry)| match entry {
            UserLogEntry::AccountData { room, data_type } => Some((room, data_type)),
            _ => None,
        });
        told.collect()
    }

    #[tokio::test]
    async fn data_has_one_row_and_one_place_in_the_log_however_often_it_changes() {
        let world = World::new().await;
        let user = world.user("bob").await.user_nid;
        let data = world.users.account_data();
        let room = DataKey { room: Some(RoomNid(3)), ..key(user, "a") };
        for round in 0..3 {
            data.set(key(user, "a"), &content(&json!({ "x": round }))).await.expect("set");
            data.set(room, &content(&json!({ "y": round }))).await.expect("set");
        }
        assert_eq!(data.get(key(user, "a")).await.expect("read").as_deref(), Some(r#"{"x":2}"#));
        assert_eq!(data.get(room).await.expect("read").as_deref(), Some(r#"{"y":2}"#));
        assert_eq!(data.get(key(UserNid(user.0 + 1), "a")).await.expect("read"), None);
        assert_eq!(log(&world, user).await, [(None, "a".to_owned()), (Some(RoomNid(3)), "a".to_owned())]);
    }

    #[tokio::test]
    async fn empty_content_deletes_and_the_log_says_so() {
        let world = World::new().await;
        let user = world.user("bob").await.user_nid;
        let data = world.users.account_data();
        data.set(key(user, "never"), &Content::new()).await.expect("nothing to do");
        assert!(log(&world, user).await.is_empty());
        data.set(key(user, "a"), &content(&json!({ "x": 1 }))).await.expect("set");
        data.set(key(user, "a"), &Content::new()).await.expect("deleted");
        assert_eq!(data.get(key(user, "a")).await.expect("read"), None);
        assert_eq!(AccountData::read_all(&world.storage.view(), user, None).await.expect("read"), []);
        assert_eq!(log(&world, user).await.len(), 1);
        let position = world.storage.position();
        data.set(key(user, "a"), &Content::new()).await.expect("deleted already");
        assert_eq!(world.storage.position(), position);
    }

    #[tokio::test]
    async fn sizes_types_and_what_the_server_manages_are_bounds() {
        let sizes = AccountDataSizes { max_bytes: 20, max_types: 2 };
        let world = World::with(Options { account_data_sizes: sizes, ..options() }).await;
        let user = world.user("bob").await.user_nid;
        let data = world.users.account_data();
        let set = async |data_type: &str, value: Value| data.set(key(user, data_type), &content(&value)).await;
        assert!(matches!(set("m.push_rules", json!({ "x": 1 })).await, Err(AccountDataError::Managed(_))));
        assert!(matches!(set("m.fully_read", json!({})).await, Err(AccountDataError::Managed(_))));
        assert!(matches!(set("", json!({ "x": 1 })).await, Err(AccountDataError::BadType)));
        assert!(matches!(set(&"t".repeat(256), json!({ "x": 1 })).await, Err(AccountDataError::BadType)));
        assert!(matches!(set("a", json!({ "x": "y".repeat(20) })).await, Err(AccountDataError::TooLarge(20))));
        set("a", json!({ "x": 1 })).await.expect("set");
        set("b", json!({ "x": 1 })).await.expect("set");
        assert!(matches!(set("c", json!({ "x": 1 })).await, Err(AccountDataError::TooMany(2))));
        set("a", json!({ "x": 2 })).await.expect("no new type");
        // What is deleted makes room once it is needed.
        set("b", json!({})).await.expect("deleted");
        assert_eq!(log(&world, user).await.len(), 2);
        set("c", json!({ "x": 1 })).await.expect("set");
        assert_eq!(log(&world, user).await, [(None, "a".to_owned()), (None, "c".to_owned())]);
    }

    #[tokio::test]
    async fn edits_at_once_are_all_made() {
        let world = World::new().await;
        let user = world.user("bob").await.user_nid;
        let data = world.users.account_data();
        let add = |number: usize| {
            data.edit(key(user, "a"), move |mut content| {
                content.insert(number.to_string(), json!(true));
                Some(content)
            })
        };
        let (a, b, c) = tokio::join!(add(1), add(2), add(3));
        a.and(b).and(c).expect("edited");
        let now = data.get(key(user, "a")).await.expect("read").expect("there");
        assert_eq!(parse(&now).len(), 3);
    }

    #[tokio::test]
    async fn a_devices_settings_go_with_the_device_in_one_batch() {
        let world = World::new().await;
        let user = world.user("bob").await.user_nid;
        let data = world.users.account_data();
        let types = ["m.local_notification_settings.A", "org.matrix.msc3890.local_notification_settings.A"];
        for (id, other) in [("A", "B"), ("B", "A")] {
            world.login("bob", "secret", device(id)).await.expect("logged in");
            let own = format!("m.local_notification_settings.{id}");
            data.set(key(user, &own), &content(&json!({ "is_silenced": true }))).await.expect("set");
            let unstable = format!("org.matrix.msc3890.local_notification_settings.{other}");
            data.set(key(user, &unstable), &content(&json!({ "is_silenced": true }))).await.expect("set");
        }
        let mut waiter = world.users.wakeups().waiter(user);
        let before = world.storage.position();
        assert!(world.users.logout(user, "A".into()).await.expect("logged out"));
        assert_eq!(world.storage.position(), before.next());
        let news = News { position: before, ephemeral: 0 };
        assert_eq!(waiter.newer_than(news).await.position, before.next());
        for data_type in types {
            assert_eq!(data.get(key(user, data_type)).await.expect("read"), None, "{data_type}");
        }
        assert_eq!(AccountData::read_all(&world.storage.view(), user, None).await.expect("read").len(), 2);
        world.users.deactivate(user, false, &Batch::new()).await.expect("deactivated");
        assert!(AccountData::read_all(&world.storage.view(), user, None).await.expect("read").is_empty());
    }
}
