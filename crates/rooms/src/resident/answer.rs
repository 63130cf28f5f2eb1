//! A room as a server gets it that has joined: the state before the join, and the auth chain.

use std::collections::BTreeSet;

use primitives::NodeId;
use ruma::{OwnedServerName, ServerName};
use storage::{
    Direction, KeyRange, ReadError, Text, View,
    schema::rooms::{EventHeaders, Membership, RoomServerSlots},
};

use super::ResidentError;
use crate::{
    Pdu,
    event_key::find_event,
    load::{self, corrupt},
    read::{EventSeries, RoomView},
    room::Room,
    sync::{has_name, heroes},
};

/// Slots that are read at once.
const SLOTS: usize = 1_000;

/// The answer to a join.
#[derive(Debug)]
pub struct JoinAnswer {
    /// The join as it is stored, with this server's signature if that was needed, and that of the room's policy server.
    pub event: Pdu,
    /// The state before the join.
    pub state: EventSeries,
    /// The events that authorise the state and the join.
    pub auth_chain: EventSeries,
    /// Only if the members are left out of the state: the servers that were in the room.
    pub servers_in_room: Option<Vec<OwnedServerName>>,
}

impl Room {
    /// The room before a join that is stored.
    pub(super) async fn join_answer(&self, join: Pdu, omit_members: bool) -> Result<JoinAnswer, ResidentError> {
        let view = self.context().storage.view();
        let room = room_view(self, &view).await?;
        let missing = || corrupt::<EventHeaders>("an event that was just stored is not there");
        let rix = find_event(&view, self.nid(), join.event_id()).await?.ok_or_else(missing)?;
        let stored = load::event(&view, self.nid(), self.version(), rix).await?;
        let root = stored.header.root_before;
        let mut state: Vec<_> = room.others(root).await?.into_iter().map(|(_, entry)| entry.rix).collect();
        let members = if !omit_members {
            room.members(root, |_| true).await?
        } else if has_name(&room, root).await? {
            Vec::new()
        } else {
            heroes(&room, join.sender(), root).await?
        };
        state.extend(members.into_iter().map(|(_, entry)| entry.rix));
        let mut chain = room.auth_chain(state.iter().copied().chain([rix])).await?;
        let mut servers_in_room = None;
        if omit_members {
            let known: BTreeSet<_> = state.iter().copied().collect();
            chain.retain(|rix| !known.contains(rix));
            servers_in_room = Some(servers_in(&room, root, &self.context().options.server_name).await?);
        }
        let series = |events| EventSeries::new(self.rooms().reads().clone(), self.nid(), events);
        Ok(JoinAnswer { event: stored.pdu, state: series(state), auth_chain: series(chain), servers_in_room })
    }
}

/// The servers of which a member is joined in a state.
async fn servers_in(room: &RoomView<'_>, root: NodeId, own: &ServerName) -> Result<Vec<OwnedServerName>, ReadError> {
    let (mut servers, mut rest) = (vec![own.to_owned()], Some(KeyRange::prefix(&(room.nid,))));
    while let Some(range) = rest {
        let page = room.view.scan::<RoomServerSlots>(&range, SLOTS, Direction::Forward).await?;
        let slots: Vec<_> = page.rows.iter().map(|((.., slot), ())| *slot).collect();
        for (((_, Text(server), _), ()), entry) in page.rows.iter().zip(room.entries(root, &slots).await?) {
            let joined = entry.is_some_and(|entry| entry.membership == Some(Membership::Join));
            if joined && servers.last().is_none_or(|last| last.as_str() != server) {
                servers.extend(OwnedServerName::try_from(server.as_str()));
            }
        }
        rest = page.rest;
    }
    Ok(servers)
}

async fn room_view<'a>(room: &'a Room, view: &'a View) -> Result<RoomView<'a>, ReadError> {
    let found = RoomView::by_number(view, &room.context().caches, room.nid()).await?;
    found.ok_or_else(|| corrupt::<storage::schema::rooms::Rooms>("a room that was just there"))
}
