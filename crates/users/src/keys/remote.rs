//! Keys of other servers' users: their servers are asked, and what they tell of users who share a room with this server's is kept.
//!
//! # The invariant
//!
//! A list that is *current* is answered from the store. It becomes so only by a fetch (`GET /user/devices`) during which nothing was heard of it, while
//! its user shares a room; from then on the user's server tells every change. It ceases to be so when an update does not follow on the last one,
//! when the user joins a room anew, and with the last shared room it goes. A list that is not current is answered by its server alone.
//!
//! Everything that is heard of a list writes its row anew, and a fetch asserts the row that it began with: of an update and a fetch that cross, the
//! update makes the fetch begin again.

mod answers;
mod claim;
mod lists;
mod query;
mod updates;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use primitives::RoomNid;
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use storage::{
    Batch, Direction, Key, KeyRange, Positioned, ReadError, Text, View,
    schema::{
        jobs::{self, JobKind, Jobs, RemoteMembers, RoomServers},
        remote_devices::{RemoteDevices, RemoteListRow, RemoteLists, StaleLists},
    },
};
use tokio::sync::Mutex;

pub use federation_client::RemoteError;
pub use lists::{FetchError, Fetched};
pub use updates::UpdateError;

/// Servers that one request asks at the same time.
const SERVERS_AT_ONCE: usize = 32;
/// Lists that are fetched from one server at the same time.
const LISTS_AT_ONCE: usize = 4;
/// Rooms of a user that are looked at in one page.
const ROOMS: usize = 16;
/// Users whose fetches are waited for.
const FETCHING: usize = 10_000;

/// Servers that did not answer, and why.
pub type Unanswered = BTreeMap<OwnedServerName, RemoteError>;

/// Who fetches which list: one request for all who want it.
#[derive(Clone)]
pub(super) struct Fetching(Arc<Cache<OwnedUserId, Arc<Mutex<()>>>>);

impl Default for Fetching {
    fn default() -> Self {
        Self(Arc::new(Cache::new(FETCHING)))
    }
}

impl std::fmt::Debug for Fetching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fetching").field(&self.0.len()).finish()
    }
}

impl Fetching {
    /// The lock of a list. Who holds it fetches; the others wait and find what was had.
    fn of(&self, user: &UserId) -> Arc<Mutex<()>> {
        let made: Result<_, std::convert::Infallible> = self.0.get_or_insert_with(user, || Ok(Arc::default()));
        made.unwrap_or_default()
    }
}

/// The time that a request to other servers has.
#[derive(Clone, Copy, Debug)]
struct Deadline(Duration);

impl Deadline {
    /// What is left at this time of the monotonic clock; an error when nothing is.
    fn left(self, now: Duration) -> Result<Duration, RemoteError> {
        let left = self.0.checked_sub(now).filter(|left| !left.is_zero());
        left.ok_or(RemoteError::Unreachable(federation_client::Unreachable::TimedOut))
    }
}

/// Whether another server's user shares a room with a user of this server, but for one room. As far as the projection is: a user whom it doesn't know yet
/// is asked for anew.
///
/// A room that all users of this server have left is not shared: nothing is heard of it. Nor is one that they have come back to before the lists of those
/// who are there were forgotten.
async fn shares_a_room(view: &View, own: &ServerName, user: &UserId, but: Option<RoomNid>) -> Result<bool, ReadError> {
    let mut rest = Some(KeyRange::prefix(&key_of(user)));
    while let Some(range) = rest {
        let page = view.scan_keys::<RemoteMembers>(&range, ROOMS, Direction::Forward).await?;
        let rooms: Vec<_> = page.keys.into_iter().map(|(_, room)| room).filter(|room| Some(*room) != but).collect();
        let here: Vec<_> = rooms.iter().map(|room| (*room, Text::new(own.as_str()))).collect();
        let forgetting: Vec<_> = rooms.iter().map(|room| (JobKind::FORGET_DEVICE_LISTS, forgetting(*room))).collect();
        let here = view.multi_get::<RoomServers>(&here).await?;
        let forgetting = view.multi_get::<Jobs>(&forgetting).await?;
        if here.iter().zip(&forgetting).any(|(here, forgetting)| here.is_some() && forgetting.is_none()) {
            return Ok(true);
        }
        rest = page.rest;
    }
    Ok(false)
}

/// The id of the job that forgets the lists of those who are in a room.
fn forgetting(room: RoomNid) -> Vec<u8> {
    (room,).to_bytes().into_parts().0
}

fn key_of(user: &UserId) -> (Text,) {
    (Text::new(user.as_str()),)
}

/// Writes a list's row anew, if nobody has since it was read.
fn put_list(batch: &mut Batch, user: &UserId, old: Option<&Positioned<RemoteListRow>>, new: RemoteListRow) {
    let key = key_of(user);
    batch.assert_unchanged::<RemoteLists>(&key, old);
    batch.put::<RemoteLists>(&key, &Positioned::pending(new));
}

/// Has a list fetched in the background.
fn fetch_later(batch: &mut Batch, user: &UserId) {
    let server = Text::new(user.server_name().as_str());
    batch.put::<StaleLists>(&(server.clone(), Text::new(user.as_str())), &());
    jobs::begin(batch, JobKind::FETCH_DEVICE_LISTS, &(server,));
}

/// Has the rooms of a user told that the list has changed.
fn tell_rooms(batch: &mut Batch, user: &UserId) {
    jobs::begin(batch, JobKind::REMOTE_DEVICE_LIST, &key_of(user));
}

/// What the membership of other servers' users means for what is kept of their devices. Called by whoever follows the states of rooms, in its batch.
#[derive(Debug)]
pub struct RemoteMembership;

impl RemoteMembership {
    /// A user has joined a room: between this and the room they shared before, if any, updates may have been missed. Clients learn of the user by
    /// the join; where something was heard of the list before, they are told again.
    pub async fn joined(view: &View, batch: &mut Batch, own: &ServerName, user: &UserId) -> Result<(), ReadError> {
        let Some(row) = view.get::<RemoteLists>(&key_of(user)).await? else { return Ok(()) };
        let is_shared = shares_a_room(view, own, user, None).await?;
        if row.value.current && !is_shared {
            let stale = RemoteListRow { current: false, ..row.value.clone() };
            put_list(batch, user, Some(&row), stale);
        }
        if !is_shared {
            tell_rooms(batch, user);
        }
        Ok(())
    }

    /// A user has left a room: if it was the last that was shared with them, nobody will tell of their devices any more.
    pub async fn left(
        view: &View,
        batch: &mut Batch,
        own: &ServerName,
        user: &UserId,
        room: RoomNid,
    ) -> Result<(), ReadError> {
        if !shares_a_room(view, own, user, Some(room)).await? {
            Self::forget(batch, user);
        }
        Ok(())
    }

    /// The last user of this server has left a room: the lists of those who are there are forgotten, by a job, unless they share another.
    pub fn all_left(batch: &mut Batch, room: RoomNid) {
        jobs::begin(batch, JobKind::FORGET_DEVICE_LISTS, &(room,));
    }

    fn forget(batch: &mut Batch, user: &UserId) {
        batch.delete::<RemoteLists>(&key_of(user));
        batch.delete_prefix::<RemoteDevices>(&key_of(user));
        batch.delete::<StaleLists>(&(Text::new(user.server_name().as_str()), Text::new(user.as_str())));
    }
}

/// The lists of a server's users that are to be fetched, after one of them.
pub async fn stale_lists(view: &View, server: &ServerName, limit: usize) -> Result<Vec<OwnedUserId>, ReadError> {
    let range = KeyRange::prefix(&(Text::new(server.as_str()),));
    let page = view.scan_keys::<StaleLists>(&range, limit, Direction::Forward).await?;
    Ok(page.keys.into_iter().filter_map(|(_, user)| user.0.try_into().ok()).collect())
}
