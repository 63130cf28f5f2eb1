//! The servers in a room, and the rooms of other servers' users: whom to tell of what happens, and who may be told of whom.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use primitives::{RoomNid, Slot};
use rooms::state::{self, Entry};
use ruma::{OwnedServerName, ServerName, UserId};
use storage::{
    Batch, Direction, KeyRange, ReadError, Text, View,
    schema::{
        jobs::{RemoteMembers, RoomServers},
        rooms::Membership,
    },
};
use users::keys::RemoteMembership;

use super::{Projection, Projections, RoomChange};

/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// Joined members by server ([`RoomServers`]), and of other servers by user ([`RemoteMembers`]).
///
/// What is kept of devices follows from who shares rooms, in the same batches: the lists of other servers' users go with the last shared room.
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
        for slot in &change.slots {
            let Some(user) = member(&slot.key.event_type, &slot.key.state_key) else { continue };
            let (before, after) = (is_joined(slot.before), is_joined(slot.after));
            if before == after {
                continue;
            }
            *servers.entry(user.server_name()).or_default() += if after { 1 } else { -1 };
            if user.server_name() != self.server_name {
                let key = (Text::new(user.as_str()), change.room);
                if after {
                    RemoteMembership::joined(&change.view, batch, user).await?;
                    batch.put::<RemoteMembers>(&key, &());
                } else {
                    if !is_elsewhere(&change.view, user, change.room).await? {
                        RemoteMembership::gone(batch, user);
                    }
                    batch.delete::<RemoteMembers>(&key);
                }
            }
        }
        for (server, more) in servers {
            let key = (change.room, Text::new(server.as_str()));
            let before = change.view.get::<RoomServers>(&key).await?.unwrap_or(0);
            match u32::try_from(i64::from(before) + more) {
                Ok(0) | Err(_) => batch.delete::<RoomServers>(&key),
                Ok(count) => batch.put::<RoomServers>(&key, &count),
            };
        }
        Ok(())
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

/// Whether another server's user is in another room than this.
async fn is_elsewhere(view: &View, user: &UserId, room: RoomNid) -> Result<bool, ReadError> {
    let range = KeyRange::prefix(&(Text::new(user.as_str()),));
    let page = view.scan_keys::<RemoteMembers>(&range, 2, Direction::Forward).await?;
    Ok(page.keys.into_iter().any(|(_, other)| other != room))
}

pub(super) fn member<'a>(event_type: &str, state_key: &'a str) -> Option<&'a UserId> {
    (event_type == "m.room.member").then(|| <&UserId>::try_from(state_key).ok())?
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
