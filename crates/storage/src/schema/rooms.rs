//! Rooms: events, their order, their state, who is in them. Table numbers 10–49 and 89. Written by the `rooms` crate only.

use primitives::{NodeId, Rank, Rix, RoomNid, Slot, StreamPosition, UserNid};
use serde::{Deserialize, Serialize};

use crate::{KeyBytes, KeyPart, Positioned, Raw, Text};

use super::{tables, version_one};

tables! {
    /// A room's name and version.
    Rooms = 10, "room", (RoomNid,) => RoomRow;
    /// A room's number by its room id.
    RoomIds = 11, "room_id", (Text,) => RoomNid;
    /// Where a room's DAG ends and its state stands; the counters of its numbers. Rewritten by every event.
    RoomHeads = 12, "room_head", (RoomNid,) => RoomHead;
    /// What is known of an event without reading it.
    EventHeaders = 13, "event_header", (RoomNid, Rix) => Positioned<EventHeader>;
    /// The event, canonical JSON as received and without `unsigned`.
    EventJson = 14, "event_json", (RoomNid, Rix) => Raw;
    /// An event's numbers by its id: the 32 bytes of the hash, or for room versions 1 and 2 `FF` and the string.
    EventIds = 15, "event_id", (Vec<u8>,) => EventPlace;
    /// What only this server knows of its own users' events: goes into `unsigned` for the sender.
    EventLocals = 16, "event_local", (RoomNid, Rix) => EventLocal;
    /// The events of the timeline in topological order; two of one rank by number.
    Timeline = 17, "timeline", (RoomNid, Rank, Rix) => ();
    /// Places in the timeline before which events are missing, with the ids of the missing `prev_events`.
    Gaps = 18, "gap", (RoomNid, Rank) => EventIdList;
    /// The stored events that name a missing `prev_event`, by the missing id (as in [`EventIds`]).
    MissingPrevs = 19, "missing_prev", (RoomNid, Text) => RixList;
    /// What happened in a room in the order of arrival: the source of incremental sync and of the outbound dispatcher.
    RoomLog = 20, "room_log", (RoomNid, StreamPosition, u16) => RoomLogEntry;
    /// Where in a room's log it stands that the devices of a user changed, by user id: the position is that of the row. Of each user there is one
    /// such row in the log, the newest, and none once they have left.
    LastDeviceChanges = 89, "last_device_change", (RoomNid, Text) => Positioned<LastDeviceChangeRow>;
    /// What happened to a local user: the other source of incremental sync.
    UserLog = 21, "user_log", (UserNid, StreamPosition, u16) => UserLogEntry;
    /// The slots of a (type, state key) hash: usually one. The hash is keyed with the database's secret.
    Slots = 22, "slot", (RoomNid, [u8; 8]) => SlotList;
    /// The (type, state key) of a slot.
    SlotKeys = 23, "slot_key", (RoomNid, Slot) => SlotKey;
    /// The nodes of a room's state trees; a state is the number of its root node.
    StateNodes = 24, "state_node", (RoomNid, NodeId) => Raw;
    /// Events that relate to another and are not redacted: by keyed hash of the other's id, then by kind, then in topological order.
    Relations = 25, "relation", (RoomNid, [u8; 16], RelationKind, Rank, Rix) => RelationRow;
    /// Redaction events that apply, by keyed hash of the redacted event's id.
    Redactions = 26, "redaction", (RoomNid, [u8; 16], Rix) => ();
    /// The newest membership of a local user in a room known here.
    Memberships = 27, "membership", (UserNid, RoomNid) => Positioned<MembershipRow>;
    /// The local users whose membership of a room is other than none: the inverse of [`Memberships`].
    LocalMembers = 28, "local_member", (RoomNid, UserNid) => Membership;
    /// Invites and knocks of local users to rooms that no local user is in.
    OutOfBand = 29, "out_of_band", (UserNid, RoomNid) => Positioned<OutOfBandRow>, large;
    /// The room of an alias of this server.
    Aliases = 30, "alias", (Text,) => AliasRow;
    /// The aliases of a room, by room id: the inverse of [`Aliases`].
    RoomAliases = 31, "room_alias", (Text, Text) => ();
    /// Every member slot that a user of a server ever held: bounds what visibility to that server must look at.
    RoomServerSlots = 32, "room_server_slot", (RoomNid, Text, Slot) => ();
    /// The auth edges of state events, packed 256 event numbers to a page, by the page's number.
    AuthPages = 33, "auth_page", (RoomNid, u32) => Raw;
    /// Redaction events whose target is not known yet, as in [`Redactions`].
    PendingRedactions = 34, "pending_redaction", (RoomNid, [u8; 16], Rix) => ();
    /// The rooms in this server's directory.
    PublishedRooms = 35, "published_room", (RoomNid,) => ();
    /// Rooms that were joined before their state was whole; the position is that of the join or, once the state is whole, of the batch that made it so.
    PartialRooms = 47, "partial_room", (RoomNid,) => Positioned<PartialRoom>;
    /// What arrived in a room while its state was partial, in the order of arrival: judged again once it is whole.
    PartialEvents = 48, "partial_event", (RoomNid, u32) => PartialEvent;
    /// What is known of a partial room beside its state, by name.
    PartialNotes = 49, "partial_note", (RoomNid, PartialNote, Text) => ();
}

/// A room's name and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// The room id.
    pub room_id: String,
    /// The room version, as in `m.room.create`.
    pub version: String,
}

/// Where a room stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomHead {
    /// Forward extremities: accepted events that no accepted event names as `prev_event`. Ascending.
    pub extremities: Vec<Rix>,
    /// The root of the current state.
    pub root: NodeId,
    /// The number of the next event.
    pub next_rix: u32,
    /// The number of the next state tree node.
    pub next_node: u32,
    /// The next slot for state other than members.
    pub next_slot: u32,
    /// The next slot for members, counted from 0; the slot itself has its highest bit set.
    pub next_member_slot: u32,
    /// The highest rank in the timeline.
    pub max_rank: Rank,
    /// The highest `depth` of the extremities' events.
    pub depth: u64,
    /// The room is being purged and vanishes from every read.
    pub purging: bool,
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPlace {
    /// The room.
    pub room: RoomNid,
    /// The event's number there.
    pub rix: Rix,
}

/// The `membership` of an `m.room.member` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Membership {
    /// `join`
    Join,
    /// `invite`
    Invite,
    /// `leave`
    Leave,
    /// `ban`
    Ban,
    /// `knock`
    Knock,
}

impl Membership {
    /// Every membership.
    pub const ALL: [Self; 5] = [Self::Join, Self::Invite, Self::Leave, Self::Ban, Self::Knock];

    /// The membership of that name, if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|membership| membership.as_str() == name)
    }

    /// The specification's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Leave => "leave",
            Self::Ban => "ban",
            Self::Knock => "knock",
        }
    }
}

/// How an event is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// Arrived live: it is in the timeline and, in order of arrival, in the room's log.
    Timeline,
    /// Fetched as history: in the timeline, not in the log.
    Backfilled,
    /// Known for its place in auth chains or state only: not in the timeline, and its state is not known.
    Outlier,
}

/// The judgement on an event, final once stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Passed every check.
    Accepted,
    /// Allowed where it stands in the DAG but not by the current state: no extremity, in no sync.
    SoftFailed(String),
    /// Not allowed: never state, auth, extremity or timeline.
    Rejected(String),
}

/// What is known of an event without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHeader {
    /// The event id.
    pub event_id: String,
    /// The sender's claimed time, in milliseconds since the Unix epoch.
    pub origin_server_ts: u64,
    /// The sender's user id.
    pub sender: String,
    /// The event type.
    pub event_type: String,
    /// The state key, for state events.
    pub state_key: Option<String>,
    /// The membership, for member events.
    pub membership: Option<Membership>,
    /// How the event is held.
    pub kind: EventKind,
    /// The judgement on it.
    pub verdict: Verdict,
    /// The place in topological order; of no meaning for outliers.
    pub rank: Rank,
    /// The event's `depth`, clamped to 2⁵³−1.
    pub depth: u64,
    /// The root of the state before the event; 0 if not known.
    pub root_before: NodeId,
    /// The root of the state after the event; 0 if not known.
    pub root_after: NodeId,
    /// The numbers of its auth events.
    pub auth: Vec<Rix>,
    /// The numbers of those of its `prev_events` that are stored.
    pub prev: Vec<Rix>,
}

/// What only this server knows of an event of its own user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLocal {
    /// The device that sent it.
    pub device_id: Option<String>,
    /// The transaction id under which the device sent it.
    pub transaction_id: Option<String>,
    /// The delayed event that this event fulfils.
    pub delay_id: Option<String>,
}

/// Event ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventIdList(pub Vec<String>);

/// Event numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RixList(pub Vec<Rix>);

/// Slots that share a hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotList(pub Vec<Slot>);

/// A (type, state key) pair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SlotKey {
    /// The event type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
}

/// One thing that happened in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomLogEntry {
    /// An event arrived and was accepted.
    Event {
        /// Its number.
        rix: Rix,
        /// Its rank.
        rank: Rank,
        /// The root of the room's *current* state once it had arrived (differs from the state after the event where there are forks).
        root: NodeId,
        /// The slots of current state that it changed, at most 32; `None`: more, compare the roots.
        changed: Option<Vec<Slot>>,
        /// The event is to be sent to other servers: it was made here or accepted here for another server's user.
        relay: bool,
    },
    /// The current state changed without an event: resolution brought it about, or the room was joined anew.
    Reset {
        /// The root before.
        old: NodeId,
        /// The root now.
        new: NodeId,
    },
    /// A member's devices changed.
    DeviceChange {
        /// The user.
        user_id: String,
    },
    /// The state that was partial is whole: the rest of it has come, and what had arrived before that is judged by it.
    Whole {
        /// The root before.
        old: NodeId,
        /// The root now.
        new: NodeId,
    },
}

/// A room that was joined before its state was whole (MSC3902).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialRoom {
    /// The server through which it was joined.
    pub via: String,
    /// How far it is.
    pub stage: PartialStage,
}

/// How far a room is on its way to a whole state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartialStage {
    /// The whole state is being fetched.
    Fetching,
    /// The whole state is here, and what arrived meanwhile is judged again.
    Replaying {
        /// The first row of [`PartialEvents`] that is still to be judged.
        next: u32,
        /// The forward extremities after the rows before that. Ascending.
        extremities: Vec<Rix>,
        /// The current state after them.
        root: NodeId,
    },
    /// The state is whole.
    Whole {
        /// The position of the join.
        began: StreamPosition,
    },
}

/// An event that arrived while the room's state was partial: what the state before it is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialEvent {
    /// Its number.
    pub rix: Rix,
    /// Those of its `prev_events` that were in the room's DAG.
    pub prev: Vec<Rix>,
    /// The roots of the states after the others.
    pub given: Vec<NodeId>,
    /// Those of the others the state after which is still to be fetched.
    pub awaits: Vec<String>,
    /// The room began anew with it: it took the place of every extremity.
    pub begins: bool,
}

/// What is noted of a partial room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartialNote {
    /// A server that is in the room, as the server says through which it was joined.
    Server,
    /// A user of another server whose devices changed meanwhile, and who may be in the room.
    DeviceChange,
}

impl KeyPart for PartialNote {
    fn put(&self, out: &mut KeyBytes) {
        match self {
            Self::Server => 0_u8,
            Self::DeviceChange => 1,
        }
        .put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        match u8::take(input)? {
            0 => Some(Self::Server),
            1 => Some(Self::DeviceChange),
            _ => None,
        }
    }
}

/// One thing that happened to a local user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserLogEntry {
    /// The membership of a room changed, or its event did.
    Membership {
        /// The room.
        room: RoomNid,
        /// The membership now.
        membership: Membership,
        /// The member event.
        rix: Rix,
        /// The membership before; `None` if there was none.
        before: Option<Membership>,
    },
    /// An invite or a knock to a room that no local user is in came, changed or ended.
    OutOfBand {
        /// The room.
        room: RoomNid,
        /// The membership now.
        membership: Membership,
    },
    /// The user forgot a room.
    Forget {
        /// The room.
        room: RoomNid,
    },
    /// Account data changed.
    AccountData {
        /// The room; `None`: global.
        room: Option<RoomNid>,
        /// The type.
        data_type: String,
    },
    /// The devices or the cross-signing keys of a user are not what they were to this user.
    DeviceList {
        /// Whose: those of another, which this user has signed. `None`: their own.
        user_id: Option<String>,
    },
}

/// The newest membership of a local user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRow {
    /// The membership.
    pub membership: Membership,
    /// The member event.
    pub rix: Rix,
    /// The user has forgotten the room since.
    pub forgotten: bool,
}

/// An invite or knock to a room that no local user is in, or its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfBandRow {
    /// `Invite`, `Knock`, or `Leave` once it has ended.
    pub membership: Membership,
    /// The room's id: the room itself may not be known here.
    pub room_id: String,
    /// The room's version.
    pub room_version: String,
    /// Who invited; the user's own id for a knock.
    pub sender: String,
    /// The server that can tell more: that of who invited, or through which the user has knocked.
    pub server: String,
    /// The member event, canonical JSON: of what has ended, the one that ended it.
    pub event: Vec<u8>,
    /// The stripped state that came with it: a JSON array.
    pub stripped_state: Vec<u8>,
}

/// An alias of this server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRow {
    /// The room it leads to.
    pub room_id: String,
    /// The user who made it.
    pub creator: String,
}

/// An event that relates to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRow {
    /// The `rel_type`.
    pub rel_type: String,
    /// The type of the relating event.
    pub event_type: String,
    /// Its sender.
    pub sender: String,
    /// The id of the event that it relates to: the hash in the key is verified against it.
    pub target: String,
    /// The keyed hash of its own id: under it stand the events that relate to it in turn.
    pub own_hash: [u8; 16],
}

/// The relations that are kept apart, because readers look for them one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RelationKind {
    /// Any other `rel_type`.
    Other,
    /// `m.replace`
    Replace,
    /// `m.thread`
    Thread,
    /// `m.reference`
    Reference,
}

impl RelationKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Other, Self::Replace, Self::Thread, Self::Reference];

    /// The kind of a `rel_type`.
    pub fn of(rel_type: &str) -> Self {
        match rel_type {
            "m.replace" => Self::Replace,
            "m.thread" => Self::Thread,
            "m.reference" => Self::Reference,
            _ => Self::Other,
        }
    }
}

impl KeyPart for RelationKind {
    fn put(&self, out: &mut KeyBytes) {
        match self {
            Self::Other => 0_u8,
            Self::Replace => 1,
            Self::Thread => 2,
            Self::Reference => 3,
        }
        .put(out);
    }

    fn take(input: &mut &[u8]) -> Option<Self> {
        Self::ALL.get(usize::from(u8::take(input)?)).copied()
    }
}

/// That a row of a room's log tells of somebody's devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDeviceChangeRow {}

version_one!(
    LastDeviceChangeRow,
    RoomRow,
    RoomNid,
    RoomHead,
    EventPlace,
    EventHeader,
    EventLocal,
    EventIdList,
    RixList,
    SlotList,
    SlotKey,
    RoomLogEntry,
    UserLogEntry,
    MembershipRow,
    Membership,
    OutOfBandRow,
    AliasRow,
    RelationRow,
    PartialRoom,
    PartialEvent
);
