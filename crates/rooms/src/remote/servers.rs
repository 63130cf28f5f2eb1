//! Which servers to ask about a room.

use ruma::{OwnedServerName, RoomId, ServerName, UserId};
use storage::{
    Direction, KeyRange, ReadError, Text,
    schema::rooms::{Membership, RoomServerSlots},
};

use crate::{
    current::Current,
    partial::{Period, noted_servers},
    registry::Rooms,
    room::Room,
};

/// Servers that are asked at most.
pub(super) const MOST: usize = 20;
/// Slots that are looked at in one page.
const PAGE: usize = 1_000;

impl Rooms {
    /// The servers to ask: those that the user names and then the one of whoever invited them. If there are none of these, those that were in the room when this server
    /// last was, and the one that the room's id names.
    pub(super) async fn candidates(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>, ReadError> {
        let mut found = Candidates { own: &self.options().server_name, servers: Vec::new() };
        for server in via {
            found.add(server);
        }
        if let Some(server) = self.inviting_server(user, room_id).await? {
            found.add(&server);
        }
        if !found.servers.is_empty() {
            return Ok(found.servers);
        }
        if let Ok(room) = self.room(room_id).await {
            for server in room.other_servers(MOST).await? {
                found.add(&server);
            }
        }
        if let Some(server) = room_id.server_name() {
            found.add(server);
        }
        Ok(found.servers)
    }

    /// The server of whoever invited the user, or where they knocked.
    async fn inviting_server(&self, user: &UserId, room_id: &RoomId) -> Result<Option<OwnedServerName>, ReadError> {
        if let Ok(room) = self.room(room_id).await
            && let Some(current) = Current::read(self.context(), room.info()).await?
            && let Some(member) = current.member(user).await?
            && member.header.membership == Some(Membership::Invite)
        {
            return Ok(Some(member.pdu.sender().server_name().to_owned()));
        }
        let Some(nid) = self.context().user_nid(user).await? else { return Ok(None) };
        let row = self.open_out_of_band(nid, room_id).await?;
        Ok(row.and_then(|(_, row)| OwnedServerName::try_from(row.server).ok()))
    }
}

/// Servers, each once, and this one never.
struct Candidates<'a> {
    own: &'a ServerName,
    servers: Vec<OwnedServerName>,
}

impl Candidates<'_> {
    fn add(&mut self, server: &ServerName) {
        if server != self.own && self.servers.len() < MOST && self.servers.iter().all(|known| known != server) {
            self.servers.push(server.to_owned());
        }
    }
}

impl Room {
    /// Servers other than this one of which a user is joined by the state that is known here.
    pub(crate) async fn other_servers(&self, limit: usize) -> Result<Vec<OwnedServerName>, ReadError> {
        let Some(current) = Current::read(self.context(), self.info()).await? else { return Ok(Vec::new()) };
        let mut servers: Vec<OwnedServerName> = Vec::new();
        let mut rest = Some(KeyRange::prefix(&(self.nid(),)));
        while let Some(range) = rest {
            let page = current.view().scan::<RoomServerSlots>(&range, PAGE, Direction::Forward).await?;
            for ((_, Text(name), slot), ()) in page.rows {
                let known = servers.last().is_some_and(|last| last.as_str() == name);
                if !known && current.membership_in(slot).await? == Some(Membership::Join) {
                    servers.extend(OwnedServerName::try_from(name));
                }
                if servers.len() == limit {
                    return Ok(servers);
                }
            }
            rest = page.rest;
        }
        if Period::open(current.view(), self.nid()).await?.is_some() {
            for server in noted_servers(current.view(), self.nid()).await? {
                if servers.len() < limit && !servers.contains(&server) {
                    servers.push(server);
                }
            }
        }
        Ok(servers)
    }
}
