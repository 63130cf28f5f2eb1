//! What sync remembers between requests. All of it can be lost: it is read anew, or sent twice.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use primitives::{Rix, RoomNid, Slot, StreamPosition, UserNid};
use quick_cache::{Weighter, sync::Cache};
use ruma::OwnedDeviceId;
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{Membership, Memberships, UserLog, UserLogEntry},
};

use crate::{activity::RoomActivity, local_members, read::Reader};

/// Users whose rooms are remembered.
const USERS: usize = 10_000;
/// Local members that are remembered, of all rooms together.
const CROWDS_MEMBERS: u64 = 2_000_000;
/// What a room costs beside its members, in members.
const CROWD_OVERHEAD: u64 = 20;
/// Rooms whose local members are remembered, about.
const CROWDS: usize = 10_000;
/// Devices for which it is remembered what members they know.
const DEVICES: usize = 2_000;
/// Members remembered for one device; beyond that all are forgotten.
const MEMBERS: usize = 5_000;
/// Rows that one page of a scan reads: few enough to be read where the request is.
const PAGE: usize = 500;

/// The rooms that a user is in, as of a position.
#[derive(Debug)]
struct JoinedRooms {
    position: StreamPosition,
    rooms: Arc<Vec<RoomNid>>,
}

/// Which member events a device has been sent with lazy loading, and in the response with which token.
#[derive(Debug, Default)]
struct SentMembers {
    /// What was sent before this was for an earlier life of the client, which has since synced from the start.
    not_before: StreamPosition,
    members: HashMap<(RoomNid, Slot), (Rix, StreamPosition)>,
}

type Device = (UserNid, Option<OwnedDeviceId>);

/// The local users who are in a room, as of a position.
#[derive(Debug)]
struct Crowd {
    position: StreamPosition,
    /// Ascending.
    members: Arc<Vec<UserNid>>,
}

/// A crowd weighs what it has of members.
#[derive(Clone, Debug)]
struct ByMembers;

impl Weighter<RoomNid, Arc<Crowd>> for ByMembers {
    fn weight(&self, _: &RoomNid, crowd: &Arc<Crowd>) -> u64 {
        CROWD_OVERHEAD.saturating_add(crowd.members.len() as u64)
    }
}

/// What sync remembers between requests.
pub(crate) struct SyncMemory {
    activity: Arc<RoomActivity>,
    joined: Cache<UserNid, Arc<JoinedRooms>>,
    crowds: Cache<RoomNid, Arc<Crowd>, ByMembers>,
    sent: Cache<Device, Arc<Mutex<SentMembers>>>,
}

impl SyncMemory {
    /// Nothing is remembered yet. `activity` is what the writers of rooms tell of their commits.
    pub(crate) fn new(activity: Arc<RoomActivity>) -> Self {
        let crowds = Cache::with_weighter(CROWDS, CROWDS_MEMBERS, ByMembers);
        Self { activity, joined: Cache::new(USERS), crowds, sent: Cache::new(DEVICES) }
    }

    /// The local users who are in a room, ascending. As long as nobody comes or goes this reads nothing.
    pub(crate) async fn local_members(&self, view: &View, room: RoomNid) -> Result<Arc<Vec<UserNid>>, ReadError> {
        if let Some(known) = self.crowds.get(&room)
            && self.activity.members_hold(room, known.position, view.position())
        {
            return Ok(Arc::clone(&known.members));
        }
        let members = Arc::new(local_members::joined(view, room).await?);
        if self.crowds.peek(&room).is_none_or(|known| known.position < view.position()) {
            self.crowds.insert(room, Arc::new(Crowd { position: view.position(), members: Arc::clone(&members) }));
        }
        Ok(members)
    }
}

impl SyncMemory {
    /// The rooms that a user is in, by number. As long as the user doesn't come or go this reads nothing.
    pub(crate) async fn joined_rooms(&self, view: &View, user: UserNid) -> Result<Arc<Vec<RoomNid>>, ReadError> {
        let known = self.joined.get(&user);
        let holds = |known: &&Arc<JoinedRooms>| self.activity.rooms_hold(user, known.position, view.position());
        if let Some(known) = known.as_ref().filter(holds) {
            return Ok(Arc::clone(&known.rooms));
        }
        let rooms = match known.filter(|known| known.position < view.position()) {
            Some(known) => caught_up(view, user, &known).await?,
            None => read_whole(view, user).await?,
        };
        // An older view never puts back what a newer one has brought.
        if self.joined.peek(&user).is_none_or(|known| known.position < view.position()) {
            let now = JoinedRooms { position: view.position(), rooms: Arc::clone(&rooms) };
            self.joined.insert(user, Arc::new(now));
        }
        Ok(rooms)
    }

    /// The same as it was when somebody last asked, if that is remembered.
    pub(crate) fn known_rooms(&self, user: UserNid) -> Option<Arc<Vec<RoomNid>>> {
        self.joined.peek(&user).map(|known| Arc::clone(&known.rooms))
    }

    /// The client syncs from the start: it knows nothing of what it was sent before.
    pub(super) fn start_over(&self, reader: &Reader, position: StreamPosition) {
        let nothing = SentMembers { not_before: position, members: HashMap::new() };
        self.sent.insert(device(reader), Arc::new(Mutex::new(nothing)));
    }

    /// Whether a device has this member event: it was sent in a response whose token it has come back with.
    pub(super) fn has_member(
        &self,
        reader: &Reader,
        key: (RoomNid, Slot),
        rix: Rix,
        acknowledged: StreamPosition,
    ) -> bool {
        let Some(sent) = self.sent.get(&device(reader)) else { return false };
        let sent = sent.lock();
        let known = sent.members.get(&key);
        known.is_some_and(|(known, at)| *known == rix && (sent.not_before..=acknowledged).contains(at))
    }

    /// Remembers that a member event is in the response with the token of this position.
    pub(super) fn sends_member(&self, reader: &Reader, key: (RoomNid, Slot), rix: Rix, position: StreamPosition) {
        let new = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(sent) = self.sent.get_or_insert_with(&device(reader), new);
        let mut sent = sent.lock();
        if sent.members.len() >= MEMBERS {
            sent.members.clear();
        }
        // What was sent before and is sent again stays as it is: every response since then held it.
        let newest = sent.members.entry(key).or_insert((rix, position));
        if newest.0 != rix {
            *newest = (rix, position);
        }
    }
}

fn device(reader: &Reader) -> Device {
    (reader.user_nid, reader.device_id.clone())
}

async fn read_whole(view: &View, user: UserNid) -> Result<Arc<Vec<RoomNid>>, ReadError> {
    let mut rooms = Vec::new();
    let mut rest = Some(KeyRange::prefix(&(user,)));
    while let Some(range) = rest {
        let page = view.scan::<Memberships>(&range, PAGE, Direction::Forward).await?;
        let joined = page.rows.into_iter().filter(|(_, row)| row.value.membership == Membership::Join);
        rooms.extend(joined.map(|((_, room), _)| room));
        rest = page.rest;
    }
    Ok(Arc::new(rooms))
}

async fn caught_up(view: &View, user: UserNid, known: &JoinedRooms) -> Result<Arc<Vec<RoomNid>>, ReadError> {
    let range = KeyRange::between(&(user, known.position.next()), &(user, view.position().next()));
    let page = view.scan::<UserLog>(&range, PAGE, Direction::Forward).await?;
    if page.rest.is_some() {
        return read_whole(view, user).await;
    }
    let mut rooms = Arc::clone(&known.rooms);
    for (_, entry) in page.rows {
        let UserLogEntry::Membership { room, membership, .. } = entry else { continue };
        match (rooms.binary_search(&room), membership == Membership::Join) {
            (Err(at), true) => Arc::make_mut(&mut rooms).insert(at, room),
            (Ok(at), false) => {
                Arc::make_mut(&mut rooms).remove(at);
            }
            _ => {}
        }
    }
    Ok(rooms)
}
