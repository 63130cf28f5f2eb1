//! Which servers take part in a room in one of its states. A room's newest answer is remembered and brought to another state by the difference of
//! the two, so that a message costs nothing and a join one step.

use std::{cell::LazyCell, collections::BTreeSet, sync::Arc};

use imbl::OrdMap;
use primitives::{NodeId, RoomNid, Slot, StreamPosition};
use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedServerName, ServerName, UserId};
use storage::{
    ReadError,
    schema::rooms::{Membership, SlotKeys},
};

use super::Servers;
use crate::{
    load::corrupt,
    partial::{Period, noted_servers},
    read::RoomView,
    state::{self, EMPTY, Entry},
};

/// Servers that are remembered, all rooms together.
const REMEMBERED: u64 = 200_000;
/// Rooms that are expected to be remembered.
const ROOMS: usize = 10_000;
/// Rooms whose state is partial of which the servers are remembered.
const NOTED: usize = 100;
/// Slots whose keys are read at once.
const AT_ONCE: usize = 500;

/// The joined members of each server in one state of a room.
#[derive(Clone, Debug)]
struct Known {
    root: NodeId,
    joined: OrdMap<OwnedServerName, u32>,
    /// The others, made when they are first asked for.
    others: Servers,
}

#[derive(Clone, Debug)]
struct ByServers;

impl Weighter<RoomNid, Arc<Known>> for ByServers {
    fn weight(&self, _: &RoomNid, known: &Arc<Known>) -> u64 {
        known.joined.len() as u64 + 1
    }
}

/// What is remembered.
#[derive(Debug)]
pub(crate) struct TakingPart {
    rooms: Cache<RoomNid, Arc<Known>, ByServers>,
    /// By room and the position of the join: the servers that are said to be in a room whose state is partial.
    noted: Cache<(RoomNid, StreamPosition), Servers>,
}

impl Default for TakingPart {
    fn default() -> Self {
        Self { rooms: Cache::with_weighter(ROOMS, REMEMBERED, ByServers), noted: Cache::new(NOTED) }
    }
}

fn is_joined(entry: Option<Entry>) -> bool {
    entry.is_some_and(|entry| entry.membership == Some(Membership::Join))
}

impl TakingPart {
    /// The servers other than this one that have joined members in a state.
    pub(crate) async fn others(
        &self,
        room: &RoomView<'_>,
        root: NodeId,
        own: &ServerName,
    ) -> Result<Servers, ReadError> {
        let remembered = self.rooms.get(&room.nid);
        if let Some(known) = remembered.as_ref().filter(|known| known.root == root) {
            return Ok(Arc::clone(&known.others));
        }
        let (from, joined) = match &remembered {
            Some(known) => (known.root, known.joined.clone()),
            None => (EMPTY, OrdMap::new()),
        };
        let joined = changed(room, (from, root), joined).await?;
        let others = match remembered.filter(|known| known.joined.keys().eq(joined.keys())) {
            Some(known) => Arc::clone(&known.others),
            None => Arc::new(joined.keys().filter(|server| *server != own).cloned().collect::<BTreeSet<_>>()),
        };
        let known = Known { root, joined, others: Arc::clone(&others) };
        self.rooms.insert(room.nid, Arc::new(known));
        Ok(others)
    }

    /// The servers that are said to be in a room whose state is partial; `None` where it is whole.
    pub(crate) async fn noted(&self, room: &RoomView<'_>) -> Result<Option<Servers>, ReadError> {
        let Some(period) = Period::open(room.view, room.nid).await? else { return Ok(None) };
        let key = (room.nid, period.began);
        if let Some(known) = self.noted.get(&key) {
            return Ok(Some(known));
        }
        let servers: Servers = Arc::new(noted_servers(room.view, room.nid).await?.into_iter().collect());
        self.noted.insert(key, Arc::clone(&servers));
        Ok(Some(servers))
    }

    /// Takes out those whom the room's ACL denies in a state (client-server API, "Server ACLs").
    pub(crate) async fn retain_allowed(
        room: &RoomView<'_>,
        root: NodeId,
        servers: &mut BTreeSet<OwnedServerName>,
    ) -> Result<(), ReadError> {
        let Some(rix) = room.state_at(root, "m.room.server_acl", "").await? else { return Ok(()) };
        let Some(event) = room.event(rix).await? else { return Ok(()) };
        let content = LazyCell::new(|| event.content_as());
        servers.retain(|server| room.caches.lets_in(&event.header.event_id, server, || content.as_ref()));
        Ok(())
    }
}

/// The joined members by server after a change of state.
async fn changed(
    room: &RoomView<'_>,
    (from, to): (NodeId, NodeId),
    mut joined: OrdMap<OwnedServerName, u32>,
) -> Result<OrdMap<OwnedServerName, u32>, ReadError> {
    let differences = room.diff(from, to).await?.into_iter();
    let moved = differences.filter(|difference| state::is_member_slot(difference.slot));
    let moved = moved.map(|difference| (difference.slot, is_joined(difference.before), is_joined(difference.after)));
    let moved: Vec<(Slot, bool, bool)> = moved.filter(|(_, before, after)| before != after).collect();
    for some in moved.chunks(AT_ONCE) {
        let keys: Vec<_> = some.iter().map(|(slot, ..)| (room.nid, *slot)).collect();
        for (key, (slot, _, joins)) in room.view.multi_get::<SlotKeys>(&keys).await?.into_iter().zip(some) {
            let key = key.ok_or_else(|| corrupt::<SlotKeys>(format!("no slot {slot} in room {}", room.nid)))?;
            let Ok(user) = <&UserId>::try_from(&*key.state_key) else { continue };
            let server = user.server_name();
            let before = joined.get(server).copied().unwrap_or(0);
            match if *joins { before + 1 } else { before.saturating_sub(1) } {
                0 => joined.remove(server),
                now => joined.insert(server.to_owned(), now),
            };
        }
    }
    Ok(joined)
}
