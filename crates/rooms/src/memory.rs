//! What a worker remembers of its room, so that a send reads nothing from the store.
//!
//! A clone costs nothing: a group of events changes a clone, which replaces the original once the group is committed.

use std::sync::Arc;

use imbl::{HashMap, OrdMap};
use primitives::{NodeId, Rank, Rix, RoomNid, Slot, StreamPosition, UserNid};
use ruma::OwnedRoomId;
use storage::{
    Direction, KeyRange, ReadError, View,
    schema::rooms::{self, Membership, RoomHead, SlotKey},
};

use crate::{Pdu, RoomVersion, load, partial::Partial, resolve::AuthPage};

/// Entries of a cache at which it is emptied before the next group.
const CACHE_BOUND: usize = 20_000;
/// Pages of auth edges at which they are dropped before the next group.
const PAGES_BOUND: usize = 64;
/// Rows that one page of a scan reads.
const PAGE: usize = 1_000;

/// What never changes of a room.
#[derive(Clone, Debug)]
pub struct RoomInfo {
    /// Its number.
    pub nid: RoomNid,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersion,
}

/// An accepted event that no accepted event follows.
#[derive(Clone, Debug)]
pub(crate) struct Tip {
    pub(crate) rix: Rix,
    pub(crate) rank: Rank,
    pub(crate) root_after: NodeId,
    pub(crate) pdu: Pdu,
}

/// A state event and its numbers.
#[derive(Clone, Debug)]
pub(crate) struct StateEvent {
    pub(crate) rix: Rix,
    /// When it was stored; [`StreamPosition::PENDING`] while it is not.
    pub(crate) position: StreamPosition,
    pub(crate) pdu: Pdu,
}

/// A room as its worker knows it.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) info: Arc<RoomInfo>,
    /// The head as it is stored: what the next batch asserts. `None` for a room that is being made.
    pub(crate) stored: Option<RoomHead>,
    pub(crate) head: RoomHead,
    /// The extremities, in the order of their numbers.
    pub(crate) tips: Vec<Tip>,
    /// Events of the current state, and what is known not to be in it.
    pub(crate) state: HashMap<SlotKey, Option<StateEvent>>,
    pub(crate) slots: HashMap<SlotKey, Slot>,
    /// Pages of auth edges.
    pub(crate) auth_pages: HashMap<u32, Arc<AuthPage>>,
    /// The memberships of local users.
    pub(crate) local: OrdMap<UserNid, Membership>,
    /// The state is not whole.
    pub(crate) partial: Option<Partial>,
}

impl Memory {
    /// A room without an event.
    pub(crate) fn new(info: RoomInfo) -> Self {
        let head = RoomHead { next_rix: 1, next_node: 1, max_rank: Rank(Rank::FIRST.0 - 1), ..RoomHead::default() };
        Self {
            info: Arc::new(info),
            stored: None,
            head,
            tips: Vec::new(),
            state: HashMap::new(),
            slots: HashMap::new(),
            auth_pages: HashMap::new(),
            local: OrdMap::new(),
            partial: None,
        }
    }

    /// The room as a view shows it; `None` if there is none or it is being purged.
    pub(crate) async fn load(view: &View, info: Arc<RoomInfo>) -> Result<Option<Self>, ReadError> {
        let room = info.nid;
        let Some(head) = view.get::<rooms::RoomHeads>(&(room,)).await?.filter(|head| !head.purging) else {
            return Ok(None);
        };
        let mut tips = Vec::with_capacity(head.extremities.len());
        for &rix in &head.extremities {
            let event = load::event(view, room, info.version, rix).await?;
            tips.push(Tip { rix, rank: event.header.rank, root_after: event.header.root_after, pdu: event.pdu });
        }
        let mut local = OrdMap::new();
        let mut rest = Some(KeyRange::prefix(&(room,)));
        while let Some(range) = rest {
            let page = view.scan::<rooms::LocalMembers>(&range, PAGE, Direction::Forward).await?;
            local.extend(page.rows.into_iter().map(|((_, user), membership)| (user, membership)));
            rest = page.rest;
        }
        let partial = Partial::load(view, room).await?;
        let empty = Self::new(RoomInfo::clone(&info));
        Ok(Some(Self { info, stored: Some(head.clone()), head, tips, local, partial, ..empty }))
    }

    /// Empties caches that have grown too large. Only between groups: within one they hold what the store doesn't yet.
    pub(crate) fn prune(&mut self) {
        if self.state.len() > CACHE_BOUND {
            self.state = HashMap::new();
        }
        if self.auth_pages.len() > PAGES_BOUND {
            self.auth_pages = HashMap::new();
        }
        if self.slots.len() > CACHE_BOUND {
            self.slots = HashMap::new();
        }
    }
}
