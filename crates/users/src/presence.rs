//! Presence: who is there (specification, "Presence"). Lives in memory; only a user's status message outlives the server.
//!
//! A user is as present as the most present of their devices. A device is there while it syncs, and for a while after it was last heard of. What
//! others see changes when the state, the message or `currently_active` does; every such change has a number of the [`Wakeups`]' sequence, which
//! sync tokens hold and which is taken under the lock, so that whoever reads a number and then the changes finds every change up to it.

mod others;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use primitives::{SharedClock, UserNid};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use storage::{
    Batch, Storage,
    schema::account_data::{PresenceRow, StatusMessages},
};

use crate::{error::StoreError, wakeups::Wakeups};

use others::Others;
pub use others::RemotePresence;

/// A device that hasn't been heard of for so long is not there any more.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// A user who has done nothing for so long is idle.
const IDLE_AFTER: Duration = Duration::from_mins(5);
/// A user who did something this short a time ago is currently active.
const ACTIVE_FOR: Duration = Duration::from_mins(1);
/// Devices of one user that are told apart; others count as one.
const MAX_DEVICES: usize = 20;
/// Users whose presence is remembered. Beyond that those are forgotten who have been offline longest.
const MAX_USERS: usize = 100_000;
/// The longest status message, in bytes.
pub const MAX_STATUS_BYTES: usize = 1_024;

/// How present a user is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PresenceState {
    /// `offline`: not connected, or not to be seen.
    #[default]
    Offline,
    /// `unavailable`: connected but idle.
    Unavailable,
    /// `online`
    Online,
}

impl PresenceState {
    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Offline, Self::Unavailable, Self::Online].into_iter().find(|state| state.as_str() == name)
    }

    /// The specification's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Unavailable => "unavailable",
            Self::Online => "online",
        }
    }
}

/// Why a presence is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PresenceError {
    /// The status message is longer than [`MAX_STATUS_BYTES`].
    #[error("a status message can have at most {MAX_STATUS_BYTES} bytes")]
    StatusTooLong,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user's presence as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The user.
    pub user_id: OwnedUserId,
    /// Their number.
    pub user: UserNid,
    /// How present.
    pub state: PresenceState,
    /// What they say of it.
    pub status_msg: Option<String>,
    /// How long ago they did something, if that is known.
    pub last_active_ago: Option<Duration>,
    /// They are doing something just now.
    pub currently_active: bool,
}

#[derive(Debug)]
struct Device {
    id: Option<OwnedDeviceId>,
    state: PresenceState,
    /// Syncs under way.
    syncs: u32,
    /// When it was last heard of, on the monotonic clock.
    heard: Duration,
}

/// What others were told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    state: PresenceState,
    currently_active: bool,
    status_msg: Option<String>,
}

#[derive(Debug)]
struct Entry {
    user: UserNid,
    devices: Vec<Device>,
    status_msg: Option<String>,
    /// When the user last did something, on the monotonic clock.
    active: Option<Duration>,
    told: Told,
    /// The number of the last change.
    changed: u64,
}

impl Entry {
    fn now(&self, now: Duration) -> Told {
        let there = |device: &&Device| device.syncs > 0 || now.saturating_sub(device.heard) < GONE_AFTER;
        let state = self.devices.iter().filter(there).map(|device| device.state).max().unwrap_or_default();
        let quiet = self.active.map_or(Duration::MAX, |active| now.saturating_sub(active));
        let state = if quiet >= IDLE_AFTER { state.min(PresenceState::Unavailable) } else { state };
        let currently_active = state == PresenceState::Online && quiet < ACTIVE_FOR;
        Told { state, currently_active, status_msg: self.status_msg.clone() }
    }

    /// The device of that id. If there are too many, the one that was heard of longest ago makes way.
    fn device(&mut self, id: Option<&DeviceId>, now: Duration) -> &mut Device {
        let found = self.devices.iter().position(|device| device.id.as_deref() == id);
        let at = found.unwrap_or_else(|| {
            let new = Device { id: id.map(ToOwned::to_owned), state: PresenceState::Offline, syncs: 0, heard: now };
            if self.devices.len() < MAX_DEVICES {
                self.devices.push(new);
                return self.devices.len() - 1;
            }
            let oldest = self.devices.iter().enumerate().min_by_key(|(_, device)| (device.syncs > 0, device.heard));
            let (at, _) = oldest.expect("there are some");
            self.devices[at] = new;
            at
        });
        &mut self.devices[at]
    }
}

#[derive(Debug, Default)]
struct Users {
    entries: HashMap<OwnedUserId, Entry>,
    /// Who changed last, by the number of the change.
    order: BTreeMap<u64, OwnedUserId>,
}

/// The presence of this server's users, and what is told of others'. Cheap to clone.
#[derive(Clone)]
pub struct Presences(Arc<Inner>);

struct Inner {
    enabled: bool,
    storage: Storage,
    clock: SharedClock,
    wakeups: Wakeups,
    users: Mutex<Users>,
    others: Mutex<Others>,
}

impl std::fmt::Debug for Presences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presences")
    }
}

/// A sync under way: its device is there until this is dropped, and for a while after.
#[derive(Debug)]
pub struct Syncing {
    presences: Presences,
    user_id: OwnedUserId,
    device: Option<OwnedDeviceId>,
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let now = self.presences.0.clock.monotonic();
        let mut users = self.presences.0.users.lock();
        if let Some(entry) = users.entries.get_mut(&self.user_id)
            && let Some(device) = entry.devices.iter_mut().find(|device| device.id == self.device)
        {
            device.syncs = device.syncs.saturating_sub(1);
            device.heard = now;
        }
    }
}

impl Presences {
    pub(crate) fn new(storage: Storage, clock: SharedClock, wakeups: Wakeups, enabled: bool) -> Self {
        Self(Arc::new(Inner { enabled, storage, clock, wakeups, users: Mutex::default(), others: Mutex::default() }))
    }

    /// Whether presence is kept at all.
    pub fn is_enabled(&self) -> bool {
        self.0.enabled
    }

    /// Sets what a user says of themselves on a device. Without a message there is none.
    pub async fn set(
        &self,
        (user_id, user): (&UserId, UserNid),
        device: Option<&DeviceId>,
        state: PresenceState,
        status_msg: Option<String>,
    ) -> Result<(), PresenceError> {
        if status_msg.as_ref().is_some_and(|message| message.len() > MAX_STATUS_BYTES) {
            return Err(PresenceError::StatusTooLong);
        }
        if !self.0.enabled {
            return Ok(());
        }
        if self.status_msg(user).await? != status_msg {
            let mut batch = Batch::new();
            match &status_msg {
                Some(message) => batch.put::<StatusMessages>(&(user,), &PresenceRow { status_msg: message.clone() }),
                None => batch.delete::<StatusMessages>(&(user,)),
            };
            self.0.storage.commit(batch).await.map_err(StoreError::Commit)?;
        }
        self.change((user_id, user), status_msg.clone(), |entry, now| {
            entry.status_msg = status_msg;
            let device = entry.device(device, now);
            (device.state, device.heard) = (state, now);
            if state == PresenceState::Online {
                entry.active = Some(now);
            }
        });
        Ok(())
    }

    async fn status_msg(&self, user: UserNid) -> Result<Option<String>, StoreError> {
        let row = self.0.storage.view().get::<StatusMessages>(&(user,)).await?;
        Ok(row.map(|row| row.status_msg))
    }

    /// A sync begins, with the `set_presence` that it asks for. One that is to stay unseen has no effect, and one that says nothing brings a
    /// device back but leaves one that is there as it is.
    pub async fn sync(
        &self,
        (user_id, user): (&UserId, UserNid),
        device: Option<&DeviceId>,
        set_presence: Option<PresenceState>,
    ) -> Result<Option<Syncing>, StoreError> {
        if !self.0.enabled || set_presence == Some(PresenceState::Offline) {
            return Ok(None);
        }
        let known = self.0.users.lock().entries.contains_key(user_id);
        let status_msg = if known { None } else { self.status_msg(user).await? };
        self.change((user_id, user), status_msg, |entry, now| {
            let device = entry.device(device, now);
            let there = device.syncs > 0 || now.saturating_sub(device.heard) < GONE_AFTER;
            let before = if there { device.state } else { PresenceState::Offline };
            let state = match set_presence {
                None if before == PresenceState::Offline => PresenceState::Online,
                None => before,
                Some(state) => state,
            };
            device.state = state;
            device.syncs += 1;
            device.heard = now;
            if state == PresenceState::Online && before != PresenceState::Online {
                entry.active = Some(now);
            }
        });
        let syncing =
            Syncing { presences: self.clone(), user_id: user_id.to_owned(), device: device.map(ToOwned::to_owned) };
        Ok(Some(syncing))
    }

    /// A user does something: sends a message, say. Who isn't to be seen stays unseen.
    pub fn active(&self, user_id: &UserId, device: Option<&DeviceId>) {
        let mut users = self.0.users.lock();
        let Some(entry) = users.entries.get_mut(user_id) else { return };
        let now = self.0.clock.monotonic();
        entry.active = Some(now);
        if let Some(device) = entry.devices.iter_mut().find(|known| known.id.as_deref() == device)
            && device.state == PresenceState::Unavailable
        {
            device.state = PresenceState::Online;
        }
        self.tell(&mut users, user_id, now);
    }

    /// Counts as a change, for those who are to hear of a user anew: they share another room now.
    pub fn touch(&self, user_id: &UserId) {
        let mut users = self.0.users.lock();
        let Some(entry) = users.entries.get_mut(user_id) else { return };
        if entry.told.state != PresenceState::Offline {
            entry.told = Told::default();
            self.tell(&mut users, user_id, self.0.clock.monotonic());
        }
    }

    fn change(
        &self,
        (user_id, user): (&UserId, UserNid),
        status_msg: Option<String>,
        change: impl FnOnce(&mut Entry, Duration),
    ) {
        let now = self.0.clock.monotonic();
        let mut users = self.0.users.lock();
        if !users.entries.contains_key(user_id) {
            users.make_room();
            let entry =
                Entry { user, devices: Vec::new(), status_msg, active: None, told: Told::default(), changed: 0 };
            users.entries.insert(user_id.to_owned(), entry);
        }
        let entry = users.entries.get_mut(user_id).expect("just put there");
        change(entry, now);
        self.tell(&mut users, user_id, now);
    }

    /// Gives a change its number, if there is one.
    fn tell(&self, users: &mut Users, user_id: &UserId, now: Duration) {
        let Some(entry) = users.entries.get_mut(user_id) else { return };
        let told = entry.now(now);
        if told != entry.told {
            users.order.remove(&entry.changed);
            entry.told = told;
            entry.changed = self.0.wakeups.next_change();
            users.order.insert(entry.changed, user_id.to_owned());
        }
    }

    /// Takes note of those who are gone or idle by now. Idempotent.
    pub fn run_due(&self) {
        self.expire_others();
        let now = self.0.clock.monotonic();
        let mut users = self.0.users.lock();
        let other = users.entries.iter().filter(|(_, entry)| entry.now(now) != entry.told);
        for user_id in other.map(|(user_id, _)| user_id.clone()).collect::<Vec<_>>() {
            self.tell(&mut users, &user_id, now);
        }
    }

    /// A user's presence; offline if nothing is known.
    pub async fn get(&self, user_id: &UserId, user: UserNid) -> Result<Presence, StoreError> {
        let now = self.0.clock.monotonic();
        if let Some(entry) = self.0.users.lock().entries.get(user_id) {
            return Ok(entry.shown(user_id, now));
        }
        let status_msg = if self.0.enabled { self.status_msg(user).await? } else { None };
        let (user_id, state) = (user_id.to_owned(), PresenceState::Offline);
        Ok(Presence { user_id, user, state, status_msg, last_active_ago: None, currently_active: false })
    }

    /// Those whose presence changed after a number, in the order in which it did.
    pub fn changed_since(&self, since: u64) -> Vec<Presence> {
        let now = self.0.clock.monotonic();
        let users = self.0.users.lock();
        let changed = users.order.range(since.saturating_add(1)..);
        changed.filter_map(|(_, id)| Some(users.entries.get(id)?.shown(id, now))).collect()
    }

    /// Those who are not offline.
    pub fn present(&self) -> Vec<Presence> {
        let now = self.0.clock.monotonic();
        let users = self.0.users.lock();
        let all = users.entries.iter().map(|(id, entry)| entry.shown(id, now));
        all.filter(|presence| presence.state != PresenceState::Offline).collect()
    }

    /// Deletes what a user has said of themselves.
    pub(crate) fn delete_in(batch: &mut Batch, user: UserNid) {
        batch.delete::<StatusMessages>(&(user,));
    }
}

impl Entry {
    fn shown(&self, user_id: &UserId, now: Duration) -> Presence {
        Presence {
            user_id: user_id.to_owned(),
            user: self.user,
            state: self.told.state,
            status_msg: self.told.status_msg.clone(),
            last_active_ago: self.active.map(|active| now.saturating_sub(active)),
            currently_active: self.told.currently_active,
        }
    }
}

impl Users {
    /// Forgets those who have been offline longest, if there are too many.
    fn make_room(&mut self) {
        if self.entries.len() < MAX_USERS {
            return;
        }
        let entries = &mut self.entries;
        let offline = |id: &OwnedUserId| entries.get(id).is_none_or(|entry| entry.told.state == PresenceState::Offline);
        let gone: Vec<_> = self.order.iter().filter(|(_, id)| offline(id)).take(MAX_USERS / 2).collect();
        let gone: Vec<_> = gone.into_iter().map(|(changed, id)| (*changed, id.clone())).collect();
        for (changed, id) in gone {
            self.order.remove(&changed);
            self.entries.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    struct Bob<'a> {
        world: &'a World,
        id: OwnedUserId,
        user: UserNid,
    }

    impl Bob<'_> {
        fn presences(&self) -> &Presences {
            self.world.users.presence()
        }

        async fn sync(&self, device: &str, set_presence: Option<PresenceState>) -> Option<Syncing> {
            let who = (&*self.id, self.user);
            self.presences().sync(who, Some(device.into()), set_presence).await.expect("begins")
        }

        async fn set(&self, device: &str, state: PresenceState, message: Option<&str>) {
            let who = (&*self.id, self.user);
            let message = message.map(ToOwned::to_owned);
            self.presences().set(who, Some(device.into()), state, message).await.expect("set");
        }

        /// The state, and whether currently active, once time has done its work.
        async fn now(&self) -> (PresenceState, bool) {
            self.presences().run_due();
            let presence = self.presences().get(&self.id, self.user).await.expect("read");
            (presence.state, presence.currently_active)
        }
    }

    async fn bob(world: &World) -> Bob<'_> {
        let registered = world.user("bob").await;
        Bob { world, id: registered.user_id, user: registered.user_nid }
    }

    const ONLINE: PresenceState = PresenceState::Online;
    const UNAVAILABLE: PresenceState = PresenceState::Unavailable;
    const OFFLINE: PresenceState = PresenceState::Offline;

    #[tokio::test]
    async fn time_makes_idle_and_then_takes_away() {
        let world = World::new().await;
        let bob = bob(&world).await;
        assert_eq!(bob.now().await, (OFFLINE, false));
        let syncing = bob.sync("A", None).await;
        assert_eq!(bob.now().await, (ONLINE, true));
        world.pass(60);
        assert_eq!(bob.now().await, (ONLINE, false));
        bob.presences().active(&bob.id, Some("A".into()));
        assert_eq!(bob.now().await, (ONLINE, true));
        world.pass(5 * 60);
        assert_eq!(bob.now().await, (UNAVAILABLE, false));
        drop(syncing);
        world.pass(29);
        assert_eq!(bob.now().await, (UNAVAILABLE, false));
        world.pass(1);
        assert_eq!(bob.now().await, (OFFLINE, false));
        bob.presences().active(&bob.id, Some("A".into()));
        assert_eq!(bob.now().await, (OFFLINE, false), "only a device that is there counts");
    }

    #[tokio::test]
    async fn the_most_present_device_counts() {
        let world = World::new().await;
        let bob = bob(&world).await;
        let _idle = bob.sync("A", Some(UNAVAILABLE)).await;
        assert_eq!(bob.now().await.0, UNAVAILABLE);
        let online = bob.sync("B", Some(ONLINE)).await;
        assert_eq!(bob.now().await.0, ONLINE);
        assert!(bob.sync("C", Some(OFFLINE)).await.is_none());
        drop(online);
        world.pass(30);
        assert_eq!(bob.now().await.0, UNAVAILABLE);
    }

    #[tokio::test]
    async fn only_changes_have_numbers_and_each_user_one() {
        let world = World::new().await;
        let bob = bob(&world).await;
        bob.set("A", ONLINE, Some("x")).await;
        let first = world.users.wakeups().last_change();
        bob.set("A", ONLINE, Some("x")).await;
        assert_eq!(world.users.wakeups().last_change(), first);
        bob.set("A", ONLINE, None).await;
        let second = world.users.wakeups().last_change();
        assert_eq!((first, second), (1, 2));
        assert_eq!(bob.presences().changed_since(0).len(), 1);
        assert_eq!(bob.presences().changed_since(first).len(), 1);
        assert!(bob.presences().changed_since(second).is_empty());
        bob.presences().touch(&bob.id);
        assert_eq!(bob.presences().changed_since(second).len(), 1);
    }

    #[tokio::test]
    async fn the_message_outlives_the_server_but_not_the_account() {
        let world = World::new().await;
        let bob = bob(&world).await;
        bob.set("A", ONLINE, Some("back soon")).await;
        let reopened = world.reopened().await;
        let after = reopened.presence().get(&bob.id, bob.user).await.expect("read");
        assert_eq!((after.state, after.status_msg.as_deref()), (OFFLINE, Some("back soon")));
        let _syncing = reopened.presence().sync((&bob.id, bob.user), None, None).await.expect("begins");
        let after = reopened.presence().get(&bob.id, bob.user).await.expect("read");
        assert_eq!((after.state, after.status_msg.as_deref()), (ONLINE, Some("back soon")));
        reopened.deactivate(bob.user, false, &Batch::new()).await.expect("deactivated");
        assert_eq!(reopened.presence().status_msg(bob.user).await.expect("read"), None);
        let long = "x".repeat(MAX_STATUS_BYTES + 1);
        let refused = bob.presences().set((&bob.id, bob.user), None, ONLINE, Some(long)).await;
        assert!(matches!(refused, Err(PresenceError::StatusTooLong)));
    }

    #[tokio::test]
    async fn devices_are_bounded_and_switched_off_it_does_nothing() {
        let world = World::new().await;
        let bob = bob(&world).await;
        for number in 0..2 * MAX_DEVICES {
            drop(bob.sync(&number.to_string(), None).await);
        }
        let devices = bob.presences().0.users.lock().entries[&bob.id].devices.len();
        assert_eq!(devices, MAX_DEVICES);
        let off = World::with(crate::Options { presence: false, ..crate::testing::options() }).await;
        let bob = super::tests::bob(&off).await;
        bob.set("A", ONLINE, Some("x")).await;
        assert!(bob.sync("A", None).await.is_none());
        assert_eq!(bob.now().await, (OFFLINE, false));
    }
}
