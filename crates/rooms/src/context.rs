//! What every part of a room's writing half works with.

use std::sync::Arc;

use primitives::{Random, ServerKey, SharedClock};
use ruma::OwnedServerName;
use storage::{ReadError, Storage};
use users::{StoreError, Users};

use crate::{
    RoomVersion,
    activity::RoomActivity,
    find::{Descriptions, MayPublish},
    pdu::MAX_PDU_BYTES,
    read::Caches,
    remote::{Remote, Turns},
    signals::Signals,
    tree::NodeCache,
    typing::Typing,
};

/// What the configuration decides about rooms.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// The version of rooms whose creator asks for none.
    pub default_room_version: RoomVersion,
    /// The largest event that a user of this server may send, in bytes of canonical JSON: at most [`crate::pdu::MAX_PDU_BYTES`].
    pub pdu_max_bytes: usize,
    /// Events that are asked for at once when some are missing before one that another server sent.
    pub missing_events_max: u32,
    /// Bytes that received events may write at once: more are written in several batches, one for each event if need be.
    pub receive_batch_max_bytes: usize,
    /// Events of history that are asked for at once.
    pub backfill_max: u32,
    /// Rooms are joined with a part of their state, where another server gives that, and the rest is fetched afterwards (MSC3902).
    pub partial_state_joins: bool,
    /// Nodes of state trees that are kept in memory, all rooms together. One takes about 200 bytes.
    pub cached_nodes: usize,
    /// Rooms whose number and version are kept in memory.
    pub cached_rooms: usize,
    /// Who may put rooms into the directory.
    pub may_publish: MayPublish,
}

impl Options {
    /// The defaults, for a server of this name.
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            server_name,
            default_room_version: RoomVersion::DEFAULT,
            pdu_max_bytes: MAX_PDU_BYTES,
            missing_events_max: 20,
            receive_batch_max_bytes: 8 << 20,
            backfill_max: 100,
            partial_state_joins: false,
            cached_nodes: 100_000,
            cached_rooms: 100_000,
            may_publish: MayPublish::default(),
        }
    }
}

/// Handles that the workers share.
pub(crate) struct Context {
    pub(crate) storage: Storage,
    pub(crate) users: Users,
    pub(crate) clock: SharedClock,
    pub(crate) random: Random,
    pub(crate) key: Arc<ServerKey>,
    /// Which rooms ask other servers for missing events.
    pub(crate) turns: Turns,
    /// Which rooms are merged outside their workers.
    pub(crate) merge_turns: Turns,
    /// What other servers have said of rooms that nobody here is in.
    pub(crate) descriptions: Descriptions,
    /// Which rooms ask other servers for history.
    pub(crate) history_turns: Turns,
    /// The way to other servers; `None`: this server takes part in no federation.
    pub(crate) remote: Option<Remote>,
    pub(crate) options: Options,
    pub(crate) activity: Arc<RoomActivity>,
    pub(crate) nodes: Arc<NodeCache>,
    /// What the readers remember: what was just stored is put there.
    pub(crate) caches: Arc<Caches>,
    /// What followers are told after a commit.
    pub(crate) signals: Arc<Signals>,
    pub(crate) typing: Arc<Typing>,
}

impl Context {
    /// The number of a local account.
    pub(crate) async fn user_nid(&self, user: &ruma::UserId) -> Result<Option<primitives::UserNid>, ReadError> {
        self.users.nid(user).await.map_err(read_error)
    }
}

/// What the account tables' errors mean to somebody who reads.
pub(crate) fn read_error(error: StoreError) -> ReadError {
    match error {
        StoreError::Read(error) => error,
        other => ReadError::Engine(other.to_string()),
    }
}
