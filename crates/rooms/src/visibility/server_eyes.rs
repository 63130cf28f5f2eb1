//! Another server's sight of one room, in one view: it sees what any of its users sees (server-server API, "Retrieving events").

use std::collections::HashMap;

use primitives::{NodeId, Rank, Slot};
use ruma::{ServerName, UserId};
use storage::{
    Direction, KeyRange, ReadError, Text,
    schema::rooms::{EventHeader, Membership, PartialNote, PartialNotes, RoomServerSlots, Verdict},
};

use super::{HistoryVisibility, Moment, Sight, allows, eyes::Visibilities, was_there};
use crate::{partial::Period, read::RoomView};

/// Member slots of one server that are looked at. A server that has had more users in the room and needs them all to be looked at (it is in the
/// room by few, and the history is for members only) is shown less than it could be.
const MAX_SLOTS: usize = 10_000;
/// Slots that are read, and looked up, at once.
const PAGE: usize = 500;
/// How many changes of memberships are walked back, of all users of the server together, to find the end of its last stay.
const MEMBERSHIP_STEPS: usize = 1_000;

/// How a server stands to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerStanding {
    /// A user of it is in the room now.
    Joined,
    /// The last of its users left with an event of this rank.
    Left(Rank),
    /// None of its users was ever in the room, as far as is known here.
    Outside,
}

/// One server's sight of one room. Remembers what it has looked up.
pub(crate) struct ServerEyes<'a> {
    room: &'a RoomView<'a>,
    server: &'a ServerName,
    standing: ServerStanding,
    /// The member slots of the server's users, once they were needed.
    slots: Option<Vec<Slot>>,
    /// The slot by which the server was in the room at the state looked at last: likely that of the next too.
    lately: Option<Slot>,
    moments: HashMap<NodeId, Moment>,
    visibilities: Visibilities,
}

impl<'a> ServerEyes<'a> {
    /// The sight of a server that is known to stand so.
    pub(crate) fn new(room: &'a RoomView<'a>, server: &'a ServerName, standing: ServerStanding) -> Self {
        let (moments, visibilities) = (HashMap::new(), Visibilities::default());
        Self { room, server, standing, slots: None, lately: None, moments, visibilities }
    }

    /// How the server stands to the room, whose current state is `root`.
    pub(crate) async fn find_standing(&mut self, root: NodeId) -> Result<ServerStanding, ReadError> {
        self.standing = match self.membership(root).await? {
            Some(Membership::Join) => ServerStanding::Joined,
            _ if self.is_noted().await? => ServerStanding::Joined,
            _ => self.find_end(root).await?.map_or(ServerStanding::Outside, ServerStanding::Left),
        };
        Ok(self.standing)
    }

    /// Whether the server is in the room, as far as is known of a partial state.
    async fn is_noted(&self) -> Result<bool, ReadError> {
        let key = (self.room.nid, PartialNote::Server, Text::new(self.server.as_str()));
        let view = self.room.view;
        Ok(view.contains::<PartialNotes>(&key).await? && Period::open(view, self.room.nid).await?.is_some())
    }

    /// The rank of the event by which the last of the server's users left.
    async fn find_end(&mut self, root: NodeId) -> Result<Option<Rank>, ReadError> {
        let (room, slots) = (self.room, self.slots().await?);
        let (mut end, mut steps) = (None, 0);
        for some in slots.chunks(PAGE) {
            for (slot, entry) in some.iter().zip(room.entries(root, some).await?) {
                let mut newest = entry.map(|entry| entry.rix);
                while let Some(rix) = newest.take().filter(|_| steps < MEMBERSHIP_STEPS) {
                    steps += 1;
                    let Some(event) = room.event(rix).await? else { break };
                    match room.member_at(event.header.root_before, Some(*slot)).await? {
                        Some((_, Membership::Join)) => end = end.max(Some(event.header.rank)),
                        Some((earlier, _)) => newest = Some(earlier),
                        None => {}
                    }
                }
            }
        }
        Ok(end)
    }

    /// Whether the server may see an event. The event is one of this room's. An event that was soft-failed is part of the DAG for servers.
    pub(crate) async fn sees(&mut self, event: &EventHeader) -> Result<bool, ReadError> {
        if event.root_after == NodeId(0) || matches!(event.verdict, Verdict::Rejected(_)) {
            return Ok(false);
        }
        let joined_later = match self.standing {
            ServerStanding::Joined => true,
            ServerStanding::Left(rank) => event.rank < rank,
            ServerStanding::Outside => false,
        };
        let own = self.is_own(&event.sender) || self.is_member_event(event);
        // Most rooms show their members everything: then nobody's membership need be looked up.
        let shared = self.visibilities.at(self.room, event.root_before).await? == HistoryVisibility::Shared;
        if own || (shared && joined_later) {
            return Ok(true);
        }
        let before = self.moment(event.root_before).await?;
        let changes = event.event_type == "m.room.history_visibility";
        let after = if changes { self.moment(event.root_after).await? } else { before };
        Ok(allows(before, after, false, joined_later))
    }

    /// Whether the server, which may see an event, could do so when it was sent.
    pub(crate) async fn was_there(&mut self, event: &EventHeader) -> Result<bool, ReadError> {
        let before = self.moment(event.root_before).await?;
        let after = if self.is_member_event(event) { self.moment(event.root_after).await? } else { before };
        Ok(was_there(before, after))
    }

    fn is_own(&self, user: &str) -> bool {
        <&UserId>::try_from(user).is_ok_and(|user| user.server_name() == self.server)
    }

    fn is_member_event(&self, event: &EventHeader) -> bool {
        event.event_type == "m.room.member" && event.state_key.as_deref().is_some_and(|key| self.is_own(key))
    }

    async fn moment(&mut self, root: NodeId) -> Result<Moment, ReadError> {
        if let Some(moment) = self.moments.get(&root) {
            return Ok(*moment);
        }
        let membership = self.membership(root).await?;
        let visibility = self.visibilities.at(self.room, root).await?;
        let moment = Moment { visibility, membership };
        self.moments.insert(root, moment);
        Ok(moment)
    }

    /// What the server's users are in a state: joined if any is, else invited if any is.
    pub(crate) async fn membership(&mut self, root: NodeId) -> Result<Option<Membership>, ReadError> {
        let room = self.room;
        if let Some((_, Membership::Join)) = room.member_at(root, self.lately).await? {
            return Ok(Some(Membership::Join));
        }
        let mut best = None;
        let slots = self.slots().await?.to_vec();
        for some in slots.chunks(PAGE) {
            for (slot, entry) in some.iter().zip(room.entries(root, some).await?) {
                match entry.and_then(|entry| entry.membership) {
                    Some(Membership::Join) => {
                        self.lately = Some(*slot);
                        return Ok(Some(Membership::Join));
                    }
                    Some(Membership::Invite) => best = Some(Membership::Invite),
                    _ => {}
                }
            }
        }
        Ok(best)
    }

    async fn slots(&mut self) -> Result<&[Slot], ReadError> {
        if self.slots.is_none() {
            let mut slots = Vec::new();
            let mut rest = Some(KeyRange::prefix(&(self.room.nid, Text::new(self.server.as_str()))));
            while let Some(range) = rest.filter(|_| slots.len() < MAX_SLOTS) {
                let page = self.room.view.scan_keys::<RoomServerSlots>(&range, PAGE, Direction::Forward).await?;
                slots.extend(page.keys.into_iter().map(|(.., slot)| slot));
                rest = page.rest;
            }
            self.slots = Some(slots);
        }
        Ok(self.slots.as_deref().unwrap_or_default())
    }
}

impl Sight for ServerEyes<'_> {
    async fn sees(&mut self, event: &EventHeader) -> Result<bool, ReadError> {
        ServerEyes::sees(self, event).await
    }
}
