//! Reading rooms: what `GET` endpoints below `/rooms` answer. Every path asks [`crate::visibility`]; none passes through a worker.
//!
//! Each read takes one [`View`] and answers from it alone (I3). What never changes (events, tree nodes, slots) is cached.

mod access;
mod bundles;
mod caches;
mod context;
mod event;
mod federation;
mod found;
mod members;
mod messages;
mod relates_to;
mod relations;
mod relationships;
mod room_view;
mod sharing;
mod shown;
mod state;
mod threads;
mod timestamp;
mod wishes;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use primitives::{SharedClock, UserNid};
use ruma::{OwnedDeviceId, OwnedUserId, RoomId};
use storage::{ReadError, Storage, View};
use users::Users;

use crate::{
    activity::RoomActivity,
    counts::CountMemory,
    outbound::TakingPart,
    sync::SyncMemory,
    tokens::{BadToken, SyncToken},
    tree::NodeCache,
    typing::Typing,
};

pub(crate) use access::Access;
pub(crate) use bundles::may_be_root;
pub use caches::Caches;
pub use context::{Context, ContextRequest};
pub use federation::{
    EventSeries, MissingEventsRequest, ServeError, ServedPdu, ServedRelationships, ServedRoom, ServedState,
};
pub use found::{Around, Found, FoundContext, IndexPage, Indexed, MemberProfile, SearchedRoom, Texts};
pub use members::{JoinedMember, JoinedMembers, MembersRequest};
pub(crate) use messages::{BEGINNING, END, Page, PageScan, Point, after, page, page_token};
pub use messages::{Messages, MessagesRequest, PageDirection};
pub(crate) use relates_to::{MAX_HOPS, target_of};
pub use relations::{Relations, RelationsRequest};
pub use relationships::{BadWalk, Relationships, RelationshipsRequest, Towards, WalkOrder};
pub(crate) use room_view::RoomView;
pub(crate) use shown::Shower;
pub use threads::{Threads, ThreadsRequest};
pub use timestamp::EventAtTime;
pub(crate) use wishes::Wishes;

/// Who reads.
#[derive(Clone, Debug)]
pub struct Reader {
    /// Their user id.
    pub user_id: OwnedUserId,
    /// Their number.
    pub user_nid: UserNid,
    /// The device that asks: it alone sees its transaction ids.
    pub device_id: Option<OwnedDeviceId>,
}

/// Why a read is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadRoomError {
    /// There is no such thing, or the reader may not know that there is (404, `M_NOT_FOUND`).
    #[error("not found")]
    NotFound,
    /// The reader is not, or no longer, in the room; or the room doesn't exist (403, `M_FORBIDDEN`).
    #[error("you are not in this room")]
    Forbidden,
    /// The state of the room, joined with only a part of it, has not come in a long while (504).
    #[error("the state of the room is still being fetched")]
    Unfinished,
    /// A token has no meaning here (400, `M_INVALID_PARAM`).
    #[error(transparent)]
    BadToken(#[from] BadToken),
    /// The store could not be read (500).
    #[error(transparent)]
    Storage(#[from] ReadError),
}

/// The reading half of the rooms. Cheap to clone.
#[derive(Clone)]
pub struct Reads(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) storage: Storage,
    pub(crate) users: Users,
    pub(crate) clock: SharedClock,
    pub(crate) activity: Arc<RoomActivity>,
    pub(crate) caches: Arc<Caches>,
    pub(crate) sync: SyncMemory,
    pub(crate) counts: CountMemory,
    pub(crate) typing: Arc<Typing>,
    /// Which servers are in which rooms.
    pub(crate) taking_part: TakingPart,
    /// Up to which change in memory presence has been told to those who wait.
    pub(crate) presence_told: AtomicU64,
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reads")
    }
}

impl Reads {
    /// The reads of a store. `activity` is what the writers of rooms tell of their commits, `nodes` the tree nodes that they use too.
    pub fn new(
        storage: Storage,
        users: Users,
        clock: SharedClock,
        activity: Arc<RoomActivity>,
        nodes: Arc<NodeCache>,
    ) -> Self {
        let caches = Arc::new(Caches::new(storage.hash(), nodes, Arc::clone(&activity)).of_users(users.clone()));
        let typing = Arc::new(Typing::new(clock.clone(), users.wakeups().clone()));
        let sync = SyncMemory::new(Arc::clone(&activity));
        Self(Arc::new(Inner {
            storage,
            users,
            clock,
            activity,
            caches,
            sync,
            counts: CountMemory::default(),
            typing,
            taking_part: TakingPart::default(),
            presence_told: AtomicU64::new(0),
        }))
    }

    /// Who is typing.
    pub(crate) fn typing(&self) -> &Arc<Typing> {
        &self.0.typing
    }

    /// What the reads remember of events and rooms.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.0.caches
    }

    /// The room as a view shows it; `None` if there is none or it is being purged.
    pub(crate) async fn room<'a>(
        &'a self,
        view: &'a View,
        room_id: &RoomId,
    ) -> Result<Option<RoomView<'a>>, ReadError> {
        RoomView::by_id(view, &self.0.caches, room_id).await
    }

    /// The token of a sync that has just been told everything.
    pub fn now(&self) -> SyncToken {
        self.token_of(&self.0.storage.view())
    }

    /// Lets time pass.
    pub async fn pause(&self, span: Duration) {
        self.0.clock.sleep(span).await;
    }

    /// The token of the place that a view shows. Of what is in memory, it says how far that is now: take it before reading that.
    pub(crate) fn token_of(&self, view: &View) -> SyncToken {
        let low_half = |id: u64| u32::try_from(id & u64::from(u32::MAX)).unwrap_or_default();
        SyncToken {
            position: view.position(),
            epoch: low_half(self.0.storage.epoch()),
            boot: low_half(self.0.storage.boot_id()),
            to_device: view.position(),
            ephemeral: self.0.users.wakeups().last_change(),
        }
    }
}

#[cfg(test)]
mod tests;
