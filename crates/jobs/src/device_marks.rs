//! Other servers are told of the devices of this server's users (server-server API, "Device Management"): all that share a room with a user whose devices
//! changed, and those that have just come to share one. This job says whom to tell of whom; whoever sends to a server takes the marks up.
//!
//! A mark holds up to where the server was told. One that is there already stays as it is, but for the newest change: so what follows on each other is
//! told in order however late it is sent.

use federation_client::{Destinations, DeviceListMark};
use futures_util::future::BoxFuture;
use primitives::{RoomNid, StreamPosition, UserNid};
use rooms::Rooms;
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use storage::{
    Batch, Direction, Key, KeyRange, ReadError, Storage, Text, View,
    schema::{
        jobs::{self, EVERY_ROOM, EVERYBODY, JobKind, RoomServers},
        rooms::{LocalMembers, Membership, Memberships, PartialNote, PartialNotes},
    },
};
use users::Users;

use crate::{
    kind::{Kind, Next, StepError},
    memberships,
};

/// Rows that one page of a scan reads.
const PAGE: usize = 500;

pub(crate) struct DeviceMarks {
    storage: Storage,
    users: Users,
    rooms: Rooms,
    destinations: Destinations,
    server_name: OwnedServerName,
    items_per_step: usize,
}

/// A user whose devices servers are told of.
struct Told {
    user: UserNid,
    user_id: OwnedUserId,
    /// When the devices last changed.
    changed: StreamPosition,
    /// Up to where every server that shares a room has been marked.
    marked: StreamPosition,
}

impl DeviceMarks {
    pub(crate) fn new(storage: Storage, users: Users, rooms: Rooms, items_per_step: usize) -> Self {
        let server_name = users.server_name().to_owned();
        let destinations = Destinations::new(storage.clone());
        Self { storage, users, rooms, destinations, server_name, items_per_step }
    }

    /// Has a server told of the devices of all users of this one in a room that it has come to.
    pub(crate) fn server_has_come(batch: &mut Batch, room: RoomNid, server: &ServerName) {
        jobs::begin(batch, JobKind::DEVICE_MARKS, &(EVERYBODY, room, Text::new(server.as_str())));
    }

    /// Has the servers in a room told of the devices of a user who has come to it.
    pub(crate) fn user_has_come(batch: &mut Batch, room: RoomNid, user: UserNid) {
        jobs::begin(batch, JobKind::DEVICE_MARKS, &(user, room, Text::new("")));
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((user, room, Text(server))) = <(UserNid, RoomNid, Text)>::from_bytes(id) else {
            return Ok(Next::Done);
        };
        // Whoever talks to no other server has nobody to tell.
        if self.rooms.remote().is_none() {
            return Ok(Next::Done);
        }
        if user == EVERYBODY {
            let Ok(server) = OwnedServerName::try_from(server) else { return Ok(Next::Done) };
            return self.tell_of_members(room, &server, cursor).await;
        }
        let Some(told) = self.told(user).await? else { return Ok(Next::Done) };
        if room == EVERY_ROOM {
            self.tell_rooms(&told, cursor).await
        } else {
            self.tell_room(&told, room, cursor).await
        }
    }

    async fn told(&self, user: UserNid) -> Result<Option<Told>, StepError> {
        let Some(user_id) = self.users.user_id(user).await? else { return Ok(None) };
        let stream = self.users.keys().stream_of(user).await?;
        Ok(stream.map(|(changed, marked)| Told { user, user_id, changed, marked }))
    }

    /// The servers in the next rooms of a user: they know what they were marked with before.
    async fn tell_rooms(&self, told: &Told, cursor: &[u8]) -> Result<Next, StepError> {
        let page = memberships::page(&self.storage, told.user, cursor, self.items_per_step).await?;
        let view = self.storage.view();
        let mut servers = Vec::new();
        for (room, _) in page.rooms.into_iter().filter(|(_, membership)| *membership == Membership::Join) {
            servers.extend(self.rooms.reads().other_servers(&view, room).await?.iter().cloned());
        }
        servers.sort_unstable();
        servers.dedup();
        let marks = servers.into_iter().map(|server| (server, told, told.marked));
        self.mark(marks.collect()).await?;
        if page.last.is_none() {
            self.users.keys().all_marked(told.user).await?;
        }
        Ok(Next::after(page.last.as_ref()))
    }

    /// The next servers in a room that a user has come to, but for those that they share another room with.
    async fn tell_room(&self, told: &Told, room: RoomNid, cursor: &[u8]) -> Result<Next, StepError> {
        let view = self.storage.view();
        let after = <(Text,)>::from_bytes(cursor).map(|(Text(name),)| name);
        let (servers, last) = self.servers_in(&view, room, after, self.items_per_step).await?;
        let rooms = joined_rooms(&view, told.user).await?;
        let mut marks = Vec::new();
        for server in servers {
            if !shares(&view, &rooms, room, &server).await? {
                marks.push((server, told, StreamPosition::ZERO));
            }
        }
        self.mark(marks).await?;
        Ok(Next::after(last.map(|last| (Text::new(last),)).as_ref()))
    }

    /// The next users in a room that a server has come to, but for those who share another room with it.
    async fn tell_of_members(&self, room: RoomNid, server: &ServerName, cursor: &[u8]) -> Result<Next, StepError> {
        let view = self.storage.view();
        let range = match <(UserNid,)>::from_bytes(cursor) {
            Some((UserNid(last),)) => KeyRange::from(&(room,), &(room, UserNid(last.saturating_add(1)))),
            None => KeyRange::prefix(&(room,)),
        };
        let page = view.scan::<LocalMembers>(&range, self.items_per_step, Direction::Forward).await?;
        let last = page.rest.and_then(|_| page.rows.last().map(|((_, user), _)| (*user,)));
        let joined = page.rows.into_iter().filter(|(_, membership)| *membership == Membership::Join);
        let mut all = Vec::new();
        for ((_, user), _) in joined {
            let rooms = joined_rooms(&view, user).await?;
            if !shares(&view, &rooms, room, server).await? {
                all.extend(self.told(user).await?);
            }
        }
        let marks = all.iter().map(|told| (server.to_owned(), told, StreamPosition::ZERO));
        self.mark(marks.collect()).await?;
        Ok(Next::after(last.as_ref()))
    }

    /// The other servers in a room after one, and the last of them if there may be more.
    async fn servers_in(
        &self,
        view: &View,
        room: RoomNid,
        after: Option<String>,
        limit: usize,
    ) -> Result<(Vec<OwnedServerName>, Option<String>), ReadError> {
        let range = match after {
            // No server's name goes on with a zero byte.
            Some(name) => KeyRange::from(&(room,), &(room, Text::new(name + "\0"))),
            None => KeyRange::prefix(&(room,)),
        };
        let page = view.scan_keys::<RoomServers>(&range, limit, Direction::Forward).await?;
        let names: Vec<_> = page.keys.into_iter().map(|(_, Text(name))| name).collect();
        let last = page.rest.and_then(|_| names.last().cloned());
        let servers = names.into_iter().filter_map(|name| OwnedServerName::try_from(name).ok());
        Ok((servers.filter(|server| *server != self.server_name).collect(), last))
    }

    /// Writes marks, and has them looked at. What was marked before stays where it begins.
    async fn mark(&self, marks: Vec<(OwnedServerName, &Told, StreamPosition)>) -> Result<(), StepError> {
        let marks: Vec<_> = marks
            .into_iter()
            .map(|(server, told, since)| {
                (server, DeviceListMark { user_id: told.user_id.clone(), since, changed: told.changed })
            })
            .collect();
        self.destinations.mark(&marks).await?;
        for (server, _) in marks {
            self.users.device_lists().marked().note(server);
        }
        Ok(())
    }
}

async fn joined_rooms(view: &View, user: UserNid) -> Result<Vec<RoomNid>, ReadError> {
    let (mut rooms, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(user,))));
    while let Some(range) = rest {
        let page = view.scan::<Memberships>(&range, PAGE, Direction::Forward).await?;
        let joined = page.rows.into_iter().filter(|(_, row)| row.value.membership == Membership::Join);
        rooms.extend(joined.map(|((_, room), _)| room));
        rest = page.rest;
    }
    Ok(rooms)
}

/// Whether a server is in one of the rooms, or is said to be where the state is partial, but for one.
async fn shares(view: &View, rooms: &[RoomNid], but: RoomNid, server: &ServerName) -> Result<bool, ReadError> {
    for rooms in rooms.chunks(PAGE) {
        let others = rooms.iter().filter(|room| **room != but);
        let keys: Vec<_> = others.map(|room| (*room, Text::new(server.as_str()))).collect();
        if view.multi_get::<RoomServers>(&keys).await?.iter().any(Option::is_some) {
            return Ok(true);
        }
        let noted = keys.into_iter().map(|(room, server)| (room, PartialNote::Server, server));
        if view.multi_get::<PartialNotes>(&noted.collect::<Vec<_>>()).await?.iter().any(Option::is_some) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Kind for DeviceMarks {
    fn number(&self) -> JobKind {
        JobKind::DEVICE_MARKS
    }

    fn name(&self) -> &'static str {
        "device_marks"
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
