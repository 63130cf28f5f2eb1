//! The servers in a room, and the rooms of other servers' users: whom to tell of what happens, and who may be told of whom.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use primitives::{RoomNid, Slot};
use rooms::{
    DeviceChanges,
    state::{self, Entry},
};
use ruma::{OwnedServerName, ServerName, UserId};
use storage::{
    Batch, Direction, KeyRange, ReadError, Text, View,
    schema::{
        jobs::{RemoteMembers, RoomServers},
        rooms::{Membership, PartialNote, PartialNotes, PartialRooms, PartialStage},
        users::AccountNames,
    },
};
use users::keys::RemoteMembership;

use crate::device_marks::DeviceMarks;

use super::{Projection, Projections, RoomChange};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Joined members by server ([`RoomServers`]), and of other servers by user ([`RemoteMembers`]).
///
/// What is kept of devices follows from who shares rooms, in the same batches: the lists of other servers' users go with the last shared room, and a
/// job begins where a server and a user of this one meet. With a member who leaves goes what the room's log says of their devices.
#[derive(Debug)]
pub struct Members {
    server_name: OwnedServerName,
}

impl Members {
    /// The number of the projection.
    pub const NUMBER: u8 = 1;

    pub(super) fn new(server_name: OwnedServerName) -> Self {
        Self { server_name }
    }

    async fn write(&self, change: &RoomChange, batch: &mut Batch) -> Result<(), ReadError> {
        let mut servers: BTreeMap<&ServerName, i64> = BTreeMap::new();
        let mut newcomers = Vec::new();
        for slot in &change.slots {
            let Some(user) = member(&slot.key.event_type, &slot.key.state_key) else { continue };
            if is_there(slot.before) && !is_there(slot.after) {
                DeviceChanges::left(&change.view, batch, (change.room, change.root), user).await?;
            }
            let (before, after) = (is_joined(slot.before), is_joined(slot.after));
            if before == after {
                continue;
            }
            *servers.entry(user.server_name()).or_default() += if after { 1 } else { -1 };
            if user.server_name() != self.server_name {
                let key = (Text::new(user.as_str()), change.room);
                if after {
                    RemoteMembership::joined(&change.view, batch, &self.server_name, user).await?;
                    batch.put::<RemoteMembers>(&key, &());
                } else {
                    RemoteMembership::left(&change.view, batch, &self.server_name, user, change.room).await?;
                    batch.delete::<RemoteMembers>(&key);
                }
            } else if after {
                newcomers.push(user);
            }
        }
        let mut with_others = self.has_others(&change.view, change.room).await?;
        let own = (change.room, Text::new(self.server_name.as_str()));
        let with_us = change.view.contains::<RoomServers>(&own).await?;
        let partial = change.view.get::<PartialRooms>(&(change.room,)).await?;
        let is_whole = partial.is_none_or(|row| matches!(row.value.stage, PartialStage::Whole { .. }));
        for (server, more) in servers {
            let key = (change.room, Text::new(server.as_str()));
            let before = change.view.get::<RoomServers>(&key).await?.unwrap_or(0);
            let after = u32::try_from(i64::from(before) + more).unwrap_or(0);
            if after == 0 {
                batch.delete::<RoomServers>(&key);
            } else {
                batch.put::<RoomServers>(&key, &after);
            }
            if before > 0 && after == 0 && server == self.server_name {
                RemoteMembership::all_left(batch, change.room);
            }
            if before == 0 && more > 0 && server != self.server_name {
                with_others = true;
                // Who comes with the room itself is told of by the job of the user who brings it.
                // Those that were said to be in a room whose state was partial have been told of changes all along.
                let noted = (change.room, PartialNote::Server, key.1.clone());
                if with_us && is_whole && !change.view.contains::<PartialNotes>(&noted).await? {
                    DeviceMarks::server_has_come(batch, change.room, server);
                }
            }
        }
        for user in newcomers.into_iter().filter(|_| with_others) {
            let name = Text::new(user.localpart());
            if let Some(user) = change.view.get::<AccountNames>(&(name,)).await? {
                DeviceMarks::user_has_come(batch, change.room, user);
            }
        }
        Ok(())
    }

    /// Whether other servers than this one are in a room.
    async fn has_others(&self, view: &View, room: RoomNid) -> Result<bool, ReadError> {
        let page = view.scan_keys::<RoomServers>(&KeyRange::prefix(&(room,)), 2, Direction::Forward).await?;
        Ok(page.keys.into_iter().any(|(_, Text(name))| name != self.server_name.as_str()))
    }
}

impl Projection for Members {
    fn number(&self) -> u8 {
        Self::NUMBER
    }

    fn name(&self) -> &'static str {
        "members"
    }

    fn concerns(&self, slot: Slot) -> bool {
        state::is_member_slot(slot)
    }

    fn apply<'a>(&'a self, change: &'a RoomChange, batch: &'a mut Batch) -> BoxFuture<'a, Result<(), ReadError>> {
        Box::pin(self.write(change, batch))
    }
}

pub(super) fn member<'a>(event_type: &str, state_key: &'a str) -> Option<&'a UserId> {
    (event_type == "m.room.member").then(|| <&UserId>::try_from(state_key).ok())?
}

/// Whether somebody is told of the devices of a member, and others of theirs.
fn is_there(entry: Option<Entry>) -> bool {
    entry.is_some_and(|entry| matches!(entry.membership, Some(Membership::Join | Membership::Invite)))
}

pub(super) fn is_joined(entry: Option<Entry>) -> bool {
    entry.is_some_and(|entry| entry.membership == Some(Membership::Join))
}

impl Projections {
    /// The servers that have joined members in a room, this one too, each with how many.
    pub async fn servers_in(&self, view: &View, room: RoomNid) -> Result<Vec<(OwnedServerName, u32)>, ReadError> {
        let (mut servers, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(room,))));
        while let Some(range) = rest {
            let page = view.scan::<RoomServers>(&range, PAGE, Direction::Forward).await?;
            let named = page.rows.into_iter().filter_map(|((_, name), count)| Some((name.0.try_into().ok()?, count)));
            servers.extend(named);
            rest = page.rest;
        }
        Ok(servers)
    }

    /// Whether a server has a joined member in a room.
    pub async fn is_in(&self, view: &View, room: RoomNid, server: &ServerName) -> Result<bool, ReadError> {
        view.contains::<RoomServers>(&(room, Text::new(server.as_str()))).await
    }

    /// The rooms known here that a user of another server has joined.
    pub async fn rooms_of_remote(&self, view: &View, user: &UserId) -> Result<Vec<RoomNid>, ReadError> {
        let (mut rooms, mut rest) = (Vec::new(), Some(KeyRange::prefix(&(Text::new(user.as_str()),))));
        while let Some(range) = rest {
            let page = view.scan_keys::<RemoteMembers>(&range, PAGE, Direction::Forward).await?;
            rooms.extend(page.keys.into_iter().map(|(_, room)| room));
            rest = page.rest;
        }
        Ok(rooms)
    }
}
