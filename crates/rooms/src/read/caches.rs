//! What reads remember: values that never change once they are stored, or that say as of when they are.

use std::sync::Arc;

use primitives::{KeyedHash, Rix, RoomNid, Slot, UserNid};
use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, OwnedServerName, UserId};
use storage::{ReadError, View, schema::rooms::SlotKey};
use tokio::sync::Notify;
use users::{Users, ignoring::IgnoredUsers};

use crate::{
    RoomVersion, activity::RoomActivity, context::read_error, find::AboutCache, render::StoredEvent, tree::NodeCache,
};

/// Events kept, whole.
const EVENTS: usize = 20_000;
/// Redacted events kept in their pruned form.
const REDACTED_EVENTS: usize = 1_000;
/// Slots kept, by their key and by their number.
const SLOTS: usize = 50_000;

/// Users whose list of ignored users is kept.
const IGNORED: usize = 10_000;

/// Servers of which it is kept whether an ACL lets them in.
const ACL_DECISIONS: usize = 20_000;
/// Rooms kept, by their number and by their id.
const ROOMS: usize = 100_000;

/// What never changes of a room.
#[derive(Clone, Debug)]
pub(super) struct RoomName {
    pub(super) room_id: OwnedRoomId,
    pub(super) version: RoomVersion,
}

/// The caches that all reads share.
pub struct Caches {
    pub(super) rooms: Cache<RoomNid, RoomName>,
    pub(super) room_ids: Cache<OwnedRoomId, RoomNid>,
    pub(super) hash: KeyedHash,
    pub(crate) activity: Arc<RoomActivity>,
    pub(super) events: Cache<(RoomNid, Rix), Arc<StoredEvent>>,
    pub(super) redacted: Cache<(RoomNid, Rix), Arc<StoredEvent>>,
    pub(super) nodes: Arc<NodeCache>,
    pub(super) slots: Cache<(RoomNid, [u8; 16]), Slot>,
    pub(super) slot_keys: Cache<(RoomNid, Slot), Arc<SlotKey>>,
    pub(crate) about: AboutCache,
    /// Whether an `m.room.server_acl` event lets a server take part: to match every pattern of a long list is done once.
    pub(crate) acl: Cache<(String, OwnedServerName), bool>,
    /// The state of some room is whole that was not.
    pub(crate) made_whole: Notify,
    /// Those who may have asked to be erased; none where nothing is shown to anybody.
    users: Option<Users>,
    ignored: Cache<UserNid, Arc<IgnoredUsers>>,
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caches")
    }
}

impl Caches {
    /// Empty caches; `hash` is the database's, `nodes` those that the writers of rooms use too, `activity` what they tell.
    pub fn new(hash: KeyedHash, nodes: Arc<NodeCache>, activity: Arc<RoomActivity>) -> Self {
        Self {
            rooms: Cache::new(ROOMS),
            room_ids: Cache::new(ROOMS),
            hash,
            activity,
            events: Cache::new(EVENTS),
            redacted: Cache::new(REDACTED_EVENTS),
            nodes,
            slots: Cache::new(SLOTS),
            slot_keys: Cache::new(SLOTS),
            about: AboutCache::default(),
            acl: Cache::new(ACL_DECISIONS),
            ignored: Cache::new(IGNORED),
            made_whole: Notify::new(),
            users: None,
        }
    }

    /// The same, for reads that hide what these users wrote who have asked to be erased.
    #[must_use]
    pub fn of_users(self, users: Users) -> Self {
        Self { users: Some(users), ..self }
    }

    /// Whether anybody at all may have asked to be erased.
    pub(super) fn may_be_erased(&self) -> bool {
        self.users.as_ref().is_some_and(Users::any_erased)
    }

    /// Whether the sender of an event has asked to be erased.
    pub(super) async fn is_erased(&self, sender: &str) -> Result<bool, ReadError> {
        match (&self.users, <&UserId>::try_from(sender)) {
            (Some(users), Ok(sender)) => users.is_erased(sender).await.map_err(read_error),
            _ => Ok(false),
        }
    }

    /// Whom a user ignores, if anybody.
    pub(crate) async fn ignored(&self, view: &View, user: UserNid) -> Result<Option<Arc<IgnoredUsers>>, ReadError> {
        let known = self.ignored.get(&user);
        let ignored = IgnoredUsers::read(view, user, known.clone()).await?;
        if let Some(ignored) =
            ignored.as_ref().filter(|ignored| known.is_none_or(|known| !Arc::ptr_eq(&known, ignored)))
        {
            self.ignored.insert(user, Arc::clone(ignored));
        }
        Ok(ignored)
    }

    /// Keeps an event that has just been stored: those who are woken for it will read it.
    pub fn keep(&self, room: RoomNid, event: StoredEvent) {
        self.events.insert((room, event.rix), Arc::new(event));
    }

    /// Forgets an event whose verdict or state was found anew.
    pub fn forget_event(&self, room: RoomNid, rix: Rix) {
        self.events.remove(&(room, rix));
        self.redacted.remove(&(room, rix));
    }
}
