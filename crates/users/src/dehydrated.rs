//! Dehydrated devices (MSC3814): a device that nobody is logged in with, to which others send keys while its user has no device at hand.
//!
//! It is a device as any other, but for its tokens, which it has none of: it is listed, gets messages, and its deletion takes all it has. It is
//! shown to its user once its keys are there, so that a request that is killed in its middle leaves nothing to be found.

use std::sync::Arc;

use primitives::{StreamPosition, UserNid};
use ruma::{DeviceId, OwnedDeviceId};
use serde_json::{Map, Value, value::RawValue};
use storage::{
    Batch, Text,
    schema::{
        key_backup::{DehydratedDeviceRow, DehydratedDevices as Rows},
        users::{DeviceRow, Devices as DeviceRows},
    },
};

use crate::{
    devices::{Devices, MAX_DEVICE_ID_BYTES, MAX_DEVICE_NAME_BYTES},
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    ground::Ground,
    keys::{KeyUpload, Keys, KeysError},
    to_device::{ToDevice, Waiting},
    tokens::Requester,
};

/// Why a dehydrated device is not kept or not found.
#[derive(Debug, thiserror::Error)]
pub enum DehydratedError {
    /// The user has no such dehydrated device.
    #[error("no such dehydrated device")]
    Unknown,
    /// A device id is empty or too long, or that of a device that somebody is logged in with.
    #[error("a dehydrated device has an id of its own, of 1 to {MAX_DEVICE_ID_BYTES} bytes")]
    BadId,
    /// The name is too long.
    #[error("a device name can have at most {MAX_DEVICE_NAME_BYTES} bytes")]
    NameTooLong,
    /// What the client keeps of the device is larger than this server allows, in bytes.
    #[error("`device_data` can have at most {0} bytes")]
    TooLarge(usize),
    /// Its keys are not taken.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A device that is to be kept.
#[derive(Debug)]
pub struct NewDehydrated {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What the client keeps of it, encrypted.
    pub device_data: Map<String, Value>,
    /// Its name.
    pub display_name: Option<String>,
    /// Its keys.
    pub keys: KeyUpload,
}

/// A device that is kept.
#[derive(Debug)]
pub struct Dehydrated {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What the client keeps of it, a JSON object.
    pub device_data: Box<RawValue>,
}

/// The dehydrated devices of all users, at most one of each.
#[derive(Debug)]
pub struct DehydratedDevices {
    ground: Ground,
    devices: Arc<Devices>,
    keys: Keys,
    to_device: Arc<ToDevice>,
    data_max_bytes: usize,
}

impl DehydratedDevices {
    pub(crate) fn new(
        ground: Ground,
        devices: Arc<Devices>,
        keys: Keys,
        to_device: Arc<ToDevice>,
        data_max_bytes: usize,
    ) -> Self {
        Self { ground, devices, keys, to_device, data_max_bytes }
    }

    /// Keeps a device in place of the one that was kept.
    pub async fn put(&self, who: &Requester, new: NewDehydrated) -> Result<(), DehydratedError> {
        let user = who.user_nid;
        let data = serde_json::to_string(&new.device_data).expect("JSON is written as JSON");
        if data.len() > self.data_max_bytes {
            return Err(DehydratedError::TooLarge(self.data_max_bytes));
        }
        let id = new.device_id.as_str();
        if id.is_empty() || id.len() > MAX_DEVICE_ID_BYTES {
            return Err(DehydratedError::BadId);
        }
        if new.display_name.as_ref().is_some_and(|name| name.len() > MAX_DEVICE_NAME_BYTES) {
            return Err(DehydratedError::NameTooLong);
        }
        let row = DehydratedDeviceRow { device: id.to_owned(), data, ready: false };
        self.make(user, &row, new.display_name).await?;
        let device = Requester { device_id: Some(new.device_id), ..who.clone() };
        if let Err(error) = self.keys.upload(&device, new.keys).await {
            self.delete(user).await?;
            return Err(error.into());
        }
        let mut batch = Batch::new();
        batch.assert_equals::<Rows>(&(user,), &row);
        batch.put::<Rows>(&(user,), &DehydratedDeviceRow { ready: true, ..row });
        match outcome(self.ground.storage.commit(batch).await)? {
            Outcome::Done(_) => Ok(()),
            // Another device has taken its place already.
            Outcome::Again => Err(DehydratedError::Unknown),
        }
    }

    /// Makes the device, which is not shown yet.
    async fn make(
        &self,
        user: UserNid,
        row: &DehydratedDeviceRow,
        display_name: Option<String>,
    ) -> Result<(), DehydratedError> {
        let key = (user, Text::new(row.device.as_str()));
        for _ in 0..MAX_ATTEMPTS {
            self.delete(user).await?;
            let view = self.ground.storage.view();
            if view.contains::<DeviceRows>(&key).await.map_err(StoreError::from)? {
                return Err(DehydratedError::BadId);
            }
            let created = self.ground.clock.now();
            let device = DeviceRow { display_name: display_name.clone(), created, current: None, previous: None };
            let mut batch = Batch::new();
            batch.assert_absent::<Rows>(&(user,)).put::<Rows>(&(user,), row);
            batch.assert_absent::<DeviceRows>(&key).put::<DeviceRows>(&key, &device);
            if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn row(&self, user: UserNid) -> Result<Option<DehydratedDeviceRow>, StoreError> {
        Ok(self.ground.storage.view().get::<Rows>(&(user,)).await?)
    }

    /// The device that is kept for a user.
    pub async fn get(&self, user: UserNid) -> Result<Option<Dehydrated>, StoreError> {
        let Some(row) = self.row(user).await?.filter(|row| row.ready) else { return Ok(None) };
        // It may have been deleted as other devices are.
        let there = self.ground.storage.view().contains::<DeviceRows>(&(user, Text::new(row.device.as_str()))).await?;
        let device_data = RawValue::from_string(row.data).expect("objects are stored as JSON");
        Ok(there.then(|| Dehydrated { device_id: row.device.into(), device_data }))
    }

    /// Deletes the device that is kept for a user with all it has, if there is one. Answers which it was.
    pub async fn delete(&self, user: UserNid) -> Result<Option<OwnedDeviceId>, StoreError> {
        let Some(row) = self.row(user).await? else { return Ok(None) };
        let device = OwnedDeviceId::from(row.device.as_str());
        self.devices.delete(user, std::slice::from_ref(&device)).await?;
        let mut batch = Batch::new();
        batch.assert_equals::<Rows>(&(user,), &row).delete::<Rows>(&(user,));
        outcome(self.ground.storage.commit(batch).await)?;
        Ok(row.ready.then_some(device))
    }

    /// The messages to a user's dehydrated device after a position, and the position to go on from. They stay until the device is deleted, so
    /// that a client that is interrupted can begin anew.
    pub async fn events(
        &self,
        user: UserNid,
        device: &DeviceId,
        after: StreamPosition,
    ) -> Result<(Vec<Box<RawValue>>, StreamPosition), DehydratedError> {
        let kept = self.get(user).await?.filter(|kept| kept.device_id == device);
        kept.ok_or(DehydratedError::Unknown)?;
        let view = self.ground.storage.view();
        let Waiting { events, more_after } =
            self.to_device.waiting(&view, user, device, after).await.map_err(StoreError::from)?;
        Ok((events, more_after.unwrap_or(view.position())))
    }

    /// Forgets which device is kept for a user who is deactivated.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete::<Rows>(&(user,));
    }
}
