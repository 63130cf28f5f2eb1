//! When and from where devices were last seen: noted in memory, coarse, and written in batches in the background.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;
use primitives::{UnixMillis, UserNid};
use quick_cache::sync::Cache;
use ruma::{DeviceId, OwnedDeviceId};
use storage::{
    Batch, Text, View,
    schema::users::{self as tables, DeviceSightingRow},
};

use crate::{error::StoreError, ground::Ground, tokens::Requester};

/// A device is noted at most this often.
const GRAIN: Duration = Duration::from_mins(5);
/// Access tokens whose last note is remembered.
const REMEMBERED: usize = 20_000;
/// Devices that wait to be written; more are not noted until they are.
const MAX_PENDING: usize = 50_000;
/// Rows that are written in one batch.
const BATCH: usize = 200;
/// The longest `User-Agent` that is kept, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;

/// When and from where a device was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub seen: UnixMillis,
    /// The client's address.
    pub address: Option<String>,
    /// The client's `User-Agent`.
    pub user_agent: Option<String>,
}

/// The sightings of all devices.
#[derive(Debug)]
pub(crate) struct Sightings {
    ground: Ground,
    /// When each access token was last noted.
    noted: Cache<u64, UnixMillis>,
    pending: Mutex<HashMap<(UserNid, OwnedDeviceId), DeviceSightingRow>>,
}

impl Sightings {
    pub(crate) fn new(ground: Ground) -> Self {
        Self { ground, noted: Cache::new(REMEMBERED), pending: Mutex::default() }
    }

    /// Notes that a device made a request, unless it was noted a short while ago.
    pub(crate) fn note(&self, requester: &Requester, address: Option<IpAddr>, user_agent: Option<&str>) {
        let Some(device) = &requester.device_id else { return };
        let now = self.ground.clock.now();
        if self.noted.get(&requester.token_id).is_some_and(|last| now.since(last) < GRAIN && last <= now) {
            return;
        }
        self.noted.insert(requester.token_id, now);
        let user_agent = user_agent.map(|text| text[..text.floor_char_boundary(MAX_USER_AGENT_BYTES)].to_owned());
        let row = DeviceSightingRow { seen: now, address: address.map(|a| a.to_string()), user_agent };
        let mut pending = self.pending.lock();
        if pending.len() < MAX_PENDING {
            pending.insert((requester.user_nid, device.clone()), row);
        }
    }

    /// The last sighting of a device, written or not.
    pub(crate) async fn of(&self, view: &View, user: UserNid, device: &str) -> Result<Option<Sighting>, StoreError> {
        let pending = self.pending.lock().get(&(user, OwnedDeviceId::from(device))).cloned();
        let row = match pending {
            Some(row) => Some(row),
            None => view.get::<tables::DeviceSightings>(&(user, Text::new(device))).await?,
        };
        Ok(row.map(|row| Sighting { seen: row.seen, address: row.address, user_agent: row.user_agent }))
    }

    /// Drops what is not written yet of a device that is deleted.
    pub(crate) fn forget(&self, user: UserNid, device: &DeviceId) {
        self.pending.lock().remove(&(user, device.to_owned()));
    }

    /// Writes what was noted, a bounded number of rows in a batch. A device that was deleted meanwhile gets no row.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        loop {
            let taken: Vec<_> = {
                let pending = self.pending.lock();
                pending.iter().take(BATCH).map(|(key, row)| (key.clone(), row.clone())).collect()
            };
            if taken.is_empty() {
                return Ok(());
            }
            let keys: Vec<_> = taken.iter().map(|((user, device), _)| (*user, Text::new(device.as_str()))).collect();
            let devices = self.ground.storage.view().multi_get::<tables::Devices>(&keys).await?;
            let mut batch = Batch::new();
            for ((key, device), (_, row)) in keys.iter().zip(&devices).zip(&taken) {
                if device.is_some() {
                    batch.put::<tables::DeviceSightings>(key, row);
                }
            }
            self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
            let mut pending = self.pending.lock();
            for (key, row) in taken {
                if pending.get(&key) == Some(&row) {
                    pending.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, device};

    #[tokio::test]
    async fn a_sighting_shows_at_once_and_is_written_later_and_seldom() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let tokens = world.login("bob", "secret", device("A")).await.expect("logged in").session.tokens;
        let requester = world.users.authenticate(&tokens.access_token).await.expect("let in");
        let saw =
            |address: &str| world.users.saw(&requester, Some(address.parse().expect("an address")), Some("Agent"));
        let before = world.storage.position();
        saw("192.0.2.1");
        saw("192.0.2.2");
        assert_eq!(world.storage.position(), before);
        let seen =
            async || world.users.devices().get(bob.user_nid, "A".into()).await.expect("read").expect("there").last_seen;
        let first = Sighting {
            seen: UnixMillis(1_700_000_000_000),
            address: Some("192.0.2.1".to_owned()),
            user_agent: Some("Agent".to_owned()),
        };
        assert_eq!(seen().await.as_ref(), Some(&first));
        world.users.run_due().await.expect("written");
        assert_eq!(world.storage.position(), before.next());
        world.users.run_due().await.expect("nothing to do");
        assert_eq!(world.storage.position(), before.next());
        assert_eq!(seen().await.as_ref(), Some(&first));
        world.pass(300);
        saw("192.0.2.3");
        assert_eq!(seen().await.expect("seen").address.as_deref(), Some("192.0.2.3"));
    }

    #[tokio::test]
    async fn a_deleted_device_leaves_no_sighting() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let tokens = world.login("bob", "secret", device("A")).await.expect("logged in").session.tokens;
        let requester = world.users.authenticate(&tokens.access_token).await.expect("let in");
        world.users.saw(&requester, None, Some(&"é".repeat(200)));
        world.users.logout(bob.user_nid, "A".into()).await.expect("logged out");
        world.pass(300);
        world.users.saw(&requester, None, None);
        world.users.run_due().await.expect("written");
        let row =
            world.storage.view().get::<tables::DeviceSightings>(&(bob.user_nid, Text::new("A"))).await.expect("read");
        assert_eq!(row, None);
    }
}
