//! Devices: the sessions that a user is logged in with.

use std::sync::Arc;

use primitives::{UnixMillis, UserNid};
use ruma::{DeviceId, OwnedDeviceId};
use storage::{
    Batch, Direction, KeyRange, Text, View,
    schema::{
        keys::DeviceKeys,
        users::{self as tables, DeviceRow},
    },
};

use crate::{
    account_data::AccountData,
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    ground::Ground,
    keys::{Change, DeviceLists, Keys, publish},
    sightings::{Sighting, Sightings},
    to_device::ToDevice,
    tokens::{IssuedTokens, Tokens, access_tokens, revoke},
    transactions::Transactions,
};

/// The longest device id, in bytes.
pub const MAX_DEVICE_ID_BYTES: usize = 255;
/// The longest device name, in bytes.
pub const MAX_DEVICE_NAME_BYTES: usize = 256;
/// Devices that are read or deleted at a time.
const PAGE: usize = 200;

/// Why a device cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The user has no such device.
    #[error("no such device")]
    Unknown,
    /// A device id is empty or longer than [`MAX_DEVICE_ID_BYTES`].
    #[error("a device id has 1 to {MAX_DEVICE_ID_BYTES} bytes")]
    BadId,
    /// A device name is longer than [`MAX_DEVICE_NAME_BYTES`].
    #[error("a device name can have at most {MAX_DEVICE_NAME_BYTES} bytes")]
    NameTooLong,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A device as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The device id.
    pub device_id: OwnedDeviceId,
    /// The name the user gave it.
    pub display_name: Option<String>,
    /// When it was first logged in.
    pub created: UnixMillis,
    /// When and from where it was last seen, some minutes coarse.
    pub last_seen: Option<Sighting>,
}

/// What a client wishes for the session that a login or a registration starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSession {
    /// The device to log in; its tokens are replaced. None for a new one.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device.
    pub initial_device_display_name: Option<String>,
    /// The client can refresh its access token.
    pub refresh_token: bool,
}

/// A session that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The device.
    pub device_id: OwnedDeviceId,
    /// Its tokens.
    pub tokens: IssuedTokens,
}

/// The devices of all users.
#[derive(Debug)]
pub struct Devices {
    ground: Ground,
    tokens: Arc<Tokens>,
    sightings: Arc<Sightings>,
    transactions: Transactions,
    lists: DeviceLists,
}

impl Devices {
    pub(crate) fn new(
        ground: Ground,
        tokens: Arc<Tokens>,
        sightings: Arc<Sightings>,
        transactions: Transactions,
        lists: DeviceLists,
    ) -> Self {
        Self { ground, tokens, sightings, transactions, lists }
    }

    /// All devices of a user, by device id.
    pub async fn list(&self, user: UserNid) -> Result<Vec<Device>, StoreError> {
        let view = self.ground.storage.view();
        let (mut devices, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(user,))));
        while let Some(range) = rest {
            let page = view.scan::<tables::Devices>(&range, PAGE, Direction::Forward).await?;
            for ((_, Text(id)), row) in page.rows {
                devices.push(self.device(&view, user, id, row).await?);
            }
            rest = page.rest;
        }
        Ok(devices)
    }

    /// One device of a user.
    pub async fn get(&self, user: UserNid, device: &DeviceId) -> Result<Option<Device>, StoreError> {
        let view = self.ground.storage.view();
        let Some(row) = view.get::<tables::Devices>(&(user, Text::new(device.as_str()))).await? else {
            return Ok(None);
        };
        Ok(Some(self.device(&view, user, device.as_str().to_owned(), row).await?))
    }

    async fn device(&self, view: &View, user: UserNid, id: String, row: DeviceRow) -> Result<Device, StoreError> {
        let last_seen = self.sightings.of(view, user, &id).await?;
        Ok(Device { device_id: id.into(), display_name: row.display_name, created: row.created, last_seen })
    }

    /// Gives a device another name; none leaves it as it is.
    pub async fn rename(&self, user: UserNid, device: &DeviceId, name: Option<&str>) -> Result<(), DeviceError> {
        if name.is_some_and(|name| name.len() > MAX_DEVICE_NAME_BYTES) {
            return Err(DeviceError::NameTooLong);
        }
        let key = (user, Text::new(device.as_str()));
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let row = view.get::<tables::Devices>(&key).await.map_err(StoreError::from)?;
            let Some(row) = row else { return Err(DeviceError::Unknown) };
            let Some(name) = name else { return Ok(()) };
            let mut batch = Batch::new();
            let renamed = DeviceRow { display_name: Some(name.to_owned()), ..row.clone() };
            batch.assert_equals::<tables::Devices>(&key, &row).put::<tables::Devices>(&key, &renamed);
            if renamed == row {
                return Ok(());
            }
            // Others see the name with the keys.
            let is_listed = view.contains::<DeviceKeys>(&key).await.map_err(StoreError::from)?;
            let changes = [Change::Device(device.as_str())];
            DeviceLists::change_if(is_listed, &view, &mut batch, user, &changes).await.map_err(StoreError::from)?;
            if let Outcome::Done(position) = outcome(self.ground.storage.commit(batch).await)? {
                self.lists.ring();
                if is_listed {
                    self.lists.wake(user, position);
                }
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Deletes devices of a user with all that hangs on them, in one batch. Those that don't exist are passed over. Answers which did.
    pub async fn delete(&self, user: UserNid, devices: &[OwnedDeviceId]) -> Result<Vec<OwnedDeviceId>, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let (mut batch, mut ended, mut deleted) = (Batch::new(), Vec::new(), Vec::new());
            let (mut data_written, mut is_listed) = (0, false);
            for device in devices {
                let row = view.get::<tables::Devices>(&(user, Text::new(device.as_str()))).await?;
                if let Some(row) = row.filter(|_| !deleted.contains(device)) {
                    self.delete_in(&mut batch, user, device, &row);
                    AccountData::delete_of_device(&view, &mut batch, user, device, &mut data_written).await?;
                    is_listed |= Keys::delete_of_device(&view, &mut batch, user, device).await?;
                    ended.extend(access_tokens(&row));
                    deleted.push(device.clone());
                }
            }
            if deleted.is_empty() {
                return Ok(deleted);
            }
            let changes: Vec<_> = deleted.iter().map(|device| Change::Deleted(device.as_str())).collect();
            DeviceLists::change_if(is_listed, &view, &mut batch, user, &changes).await?;
            if let Outcome::Done(position) = outcome(self.ground.storage.commit(batch).await)? {
                self.lists.ring();
                self.lists.wake(user, position);
                self.tokens.forget(&ended);
                for device in &deleted {
                    self.sightings.forget(user, device);
                }
                return Ok(deleted);
            }
        }
        Err(StoreError::Contended)
    }

    /// Deletes all devices of a user but one, a bounded number in a batch. Answers which there were.
    pub async fn delete_all(&self, user: UserNid, keep: Option<&DeviceId>) -> Result<Vec<OwnedDeviceId>, StoreError> {
        let mut deleted = Vec::new();
        loop {
            // One more than a page, so that the one that is kept never fills it.
            let range = KeyRange::prefix(&(user,));
            let page = self.ground.storage.view().scan::<tables::Devices>(&range, PAGE + 1, Direction::Forward).await?;
            let ids = page.rows.into_iter().map(|((_, Text(id)), _)| OwnedDeviceId::from(id));
            let ids: Vec<_> = ids.filter(|id| Some(&**id) != keep).take(PAGE).collect();
            if ids.is_empty() {
                return Ok(deleted);
            }
            deleted.extend(self.delete(user, &ids).await?);
        }
    }

    /// Everything that goes with a device. The row is asserted, so that a login at the same time is not half undone.
    fn delete_in(&self, batch: &mut Batch, user: UserNid, device: &DeviceId, row: &DeviceRow) {
        let key = (user, Text::new(device.as_str()));
        batch.assert_equals::<tables::Devices>(&key, row);
        batch.delete::<tables::Devices>(&key);
        batch.delete::<tables::DeviceSightings>(&key);
        for pair in row.current.iter().chain(&row.previous) {
            revoke(batch, pair);
        }
        self.transactions.delete_in(batch, user, device);
        ToDevice::delete_in(batch, user, device);
    }

    /// Says that a login has been committed: other servers are told of a device that is new.
    pub(crate) fn ring(&self) {
        self.lists.ring();
    }

    /// Adds a login to a batch: the device, made if it is not there, and fresh tokens in place of those it had. Answers also which access
    /// tokens to forget after the commit.
    pub(crate) async fn log_in(
        &self,
        view: &View,
        batch: &mut Batch,
        user: UserNid,
        new: &NewSession,
    ) -> Result<(Session, Vec<[u8; 32]>), DeviceError> {
        let device_id = self.device_id(new)?;
        let key = (user, Text::new(device_id.as_str()));
        let old = view.get::<tables::Devices>(&key).await.map_err(StoreError::from)?;
        batch.assert_unchanged::<tables::Devices>(&key, old.as_ref());
        if old.is_none() {
            publish(view, batch, user, &[Change::Device(device_id.as_str())]).await.map_err(StoreError::from)?;
        }
        let mut ended = Vec::new();
        for pair in old.iter().flat_map(|row| row.current.iter().chain(&row.previous)) {
            ended.push(revoke(batch, pair));
        }
        let (pair, tokens) = self.tokens.issue(batch, user, device_id.as_str(), new.refresh_token);
        let row = old.unwrap_or_else(|| DeviceRow {
            display_name: new.initial_device_display_name.clone(),
            created: self.ground.clock.now(),
            current: None,
            previous: None,
        });
        batch.put::<tables::Devices>(&key, &DeviceRow { current: Some(pair), previous: None, ..row });
        Ok((Session { device_id, tokens }, ended))
    }

    fn device_id(&self, new: &NewSession) -> Result<OwnedDeviceId, DeviceError> {
        if new.initial_device_display_name.as_ref().is_some_and(|name| name.len() > MAX_DEVICE_NAME_BYTES) {
            return Err(DeviceError::NameTooLong);
        }
        match &new.device_id {
            Some(id) if id.as_str().is_empty() || id.as_str().len() > MAX_DEVICE_ID_BYTES => Err(DeviceError::BadId),
            Some(id) => Ok(id.clone()),
            None => Ok(self.ground.random.uppercase(10).into()),
        }
    }

    /// All access tokens of a user, for dropping them from memory.
    pub(crate) async fn access_tokens(&self, user: UserNid) -> Result<Vec<[u8; 32]>, StoreError> {
        let view = self.ground.storage.view();
        let (mut hashes, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(user,))));
        while let Some(range) = rest {
            let page = view.scan::<tables::Devices>(&range, PAGE, Direction::Forward).await?;
            hashes.extend(page.rows.iter().flat_map(|(_, row)| access_tokens(row)));
            rest = page.rest;
        }
        Ok(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        TxnKey,
        testing::{World, device, token},
    };

    #[tokio::test]
    async fn devices_are_listed_and_renamed() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        world.user("carol").await;
        world.login("bob", "secret", device("A")).await.expect("logged in");
        let devices = world.users.devices();
        devices.rename(bob.user_nid, "A".into(), Some("phone")).await.expect("renamed");
        devices.rename(bob.user_nid, "A".into(), None).await.expect("left alone");
        let a = devices.get(bob.user_nid, "A".into()).await.expect("read").expect("there");
        assert_eq!(
            (a.display_name.as_deref(), a.created, a.last_seen),
            (Some("phone"), UnixMillis(1_700_000_000_000), None)
        );
        assert_eq!(devices.list(bob.user_nid).await.expect("read").len(), 2);
        assert!(devices.get(bob.user_nid, "B".into()).await.expect("read").is_none());
        assert!(matches!(devices.rename(bob.user_nid, "B".into(), None).await, Err(DeviceError::Unknown)));
        let long = "x".repeat(257);
        assert!(matches!(devices.rename(bob.user_nid, "A".into(), Some(&long)).await, Err(DeviceError::NameTooLong)));
    }

    #[tokio::test]
    async fn deletion_takes_everything_of_several_devices_in_one_batch() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let a = world.login("bob", "secret", device("A")).await.expect("logged in").session;
        let b = world.login("bob", "secret", device("B")).await.expect("logged in").session;
        let key = |id: &str| TxnKey {
            user_nid: bob.user_nid,
            device_id: Some(id.into()),
            path: "p".to_owned(),
            txn_id: "t".to_owned(),
        };
        for id in ["A", "C"] {
            world.storage.commit(world.users.transactions().record(&key(id), "$x")).await.expect("written");
        }
        let before = world.storage.position();
        let ids = ["A".into(), "B".into(), "A".into(), "NO".into()];
        assert_eq!(world.users.devices().delete(bob.user_nid, &ids).await.expect("deleted"), ["A", "B"]);
        assert_eq!(world.storage.position(), before.next());
        for session in [a, b] {
            assert!(world.users.authenticate(&session.tokens.access_token).await.is_err());
        }
        assert_eq!(world.users.transactions().lookup(&key("A")).await.expect("read"), None);
        assert!(world.users.transactions().lookup(&key("C")).await.expect("read").is_some());
        assert!(world.users.authenticate(&token(&bob)).await.is_ok());
    }

    #[tokio::test]
    async fn all_but_one_go_however_many_there_are() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        for number in 0..450 {
            world.login("bob", "secret", device(&format!("D{number}"))).await.expect("logged in");
        }
        let keep = &bob.session.as_ref().expect("a session").device_id;
        let gone = world.users.devices().delete_all(bob.user_nid, Some(keep)).await.expect("deleted");
        assert_eq!(gone.len(), 450);
        let left = world.users.devices().list(bob.user_nid).await.expect("read");
        assert_eq!(left.iter().map(|device| &device.device_id).collect::<Vec<_>>(), [keep]);
    }

    #[tokio::test]
    async fn a_login_and_a_deletion_at_once_leave_no_half_device() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        for _ in 0..20 {
            world.login("bob", "secret", device("A")).await.expect("logged in");
            let ids = ["A".into()];
            let (login, deleted) = tokio::join!(
                world.login("bob", "secret", device("A")),
                world.users.devices().delete(bob.user_nid, &ids)
            );
            deleted.expect("deleted");
            let works = world.users.authenticate(&login.expect("logged in").session.tokens.access_token).await.is_ok();
            let there = world.users.devices().get(bob.user_nid, "A".into()).await.expect("read").is_some();
            assert_eq!(works, there);
        }
    }
}
