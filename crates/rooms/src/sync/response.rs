//! The response of /sync. Serialises itself; what is empty is left out.

use std::collections::BTreeMap;

use ruma::OwnedRoomId;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    counts::Unread,
    render::{ClientEvent, StrippedEvent},
    tokens::{PageToken, SyncToken},
};

/// A list of events.
#[derive(Clone, Debug, Serialize)]
pub struct Events<T> {
    /// The events.
    pub events: Vec<T>,
}

impl<T> Default for Events<T> {
    fn default() -> Self {
        Self { events: Vec::new() }
    }
}

impl<T> Events<T> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// What is new for a user.
#[derive(Clone, Debug, Serialize)]
pub struct SyncResponse {
    /// The token to come back with.
    pub next_batch: SyncToken,
    /// What is new in rooms.
    #[serde(skip_serializing_if = "SyncRooms::is_empty")]
    pub rooms: SyncRooms,
    /// Presence updates.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub presence: Events<Box<RawValue>>,
    /// The user's data that is of no room.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub account_data: Events<Box<RawValue>>,
    /// Messages sent to this device.
    #[serde(skip_serializing_if = "Events::is_empty")]
    pub to_device: Events<Box<RawValue>>,
    /// Users whose devices changed.
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    pub device_lists: DeviceLists,
    /// How many one-time keys this device has left, by algorithm. Always there: clients take its absence for a server without keys.
    pub device_one_time_keys_count: BTreeMap<String, u64>,
    /// The algorithms of which this device has a fallback key that nobody has used. Always there, as above.
    pub device_unused_fallback_key_types: Vec<String>,
}

/// Users whose devices changed, and users with whom no room is shared any more.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeviceLists {
    /// Whose keys to ask for anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Whose keys to forget.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl DeviceLists {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }

    /// Adds a user whose keys are to be asked for anew.
    pub(super) fn add(&mut self, user_id: &str) {
        if let Err(place) = self.changed.binary_search_by(|known| known.as_str().cmp(user_id)) {
            self.changed.insert(place, user_id.to_owned());
        }
    }
}

/// What is new in rooms, by the user's membership.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SyncRooms {
    /// Rooms that the user is in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub join: BTreeMap<OwnedRoomId, JoinedRoom>,
    /// Rooms that the user is invited to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub invite: BTreeMap<OwnedRoomId, InvitedRoom>,
    /// Rooms that the user has knocked at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub knock: BTreeMap<OwnedRoomId, KnockedRoom>,
    /// Rooms that the user has left, or was made to leave.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub leave: BTreeMap<OwnedRoomId, LeftRoom>,
}

impl SyncRooms {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.join.is_empty() && self.invite.is_empty() && self.knock.is_empty() && self.leave.is_empty()
    }
}

/// A part of a room's timeline.
#[derive(Clone, Debug, Serialize)]
pub struct SyncTimeline {
    /// The events, oldest first.
    pub events: Vec<ClientEvent>,
    /// Whether events between the last sync and these are left out.
    pub limited: bool,
    /// From here `/messages` goes on to older events.
    pub prev_batch: PageToken,
}

/// Unread counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notifications {
    /// Events that notify and highlight.
    pub highlight_count: u64,
    /// Events that notify.
    pub notification_count: u64,
}

impl From<Unread> for Notifications {
    fn from(unread: Unread) -> Self {
        Self { highlight_count: unread.highlight.into(), notification_count: unread.notify.into() }
    }
}

/// What helps to name a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoomSummary {
    /// Members to name the room after, where it has no name of its own.
    #[serde(rename = "m.heroes", skip_serializing_if = "Option::is_none")]
    pub heroes: Option<Vec<String>>,
    /// How many have joined.
    #[serde(rename = "m.joined_member_count")]
    pub joined_member_count: u32,
    /// How many are invited.
    #[serde(rename = "m.invited_member_count")]
    pub invited_member_count: u32,
}

/// What is new in a room that the user is in.
#[derive(Clone, Debug, Serialize)]
pub struct JoinedRoom {
    /// What helps to name the room, if its members changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<RoomSummary>,
    /// State up to the start of the timeline, or, under one of its names, up to its end.
    #[serde(flatten)]
    pub state: StatePart,
    /// The timeline.
    pub timeline: SyncTimeline,
    /// Typing notifications and receipts. Always there: clients expect it.
    pub ephemeral: Events<Box<RawValue>>,
    /// The user's data on the room. Always there: clients expect it.
    pub account_data: Events<Box<RawValue>>,
    /// Unread counts: those of threads too, unless the client wants them apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unread_notifications: Option<Notifications>,
    /// Unread counts by the root of the thread, if the client wants them: of threads in which something is unread.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unread_thread_notifications: BTreeMap<String, Notifications>,
}

/// State that a client needs besides the timeline.
#[derive(Clone, Debug, Serialize)]
pub enum StatePart {
    /// What changed up to the start of the timeline.
    #[serde(rename = "state")]
    Before(Events<ClientEvent>),
    /// What changed up to the end of the timeline (MSC4222).
    #[serde(rename = "state_after")]
    After(Events<ClientEvent>),
    /// The same under its first name.
    #[serde(rename = "org.matrix.msc4222.state_after")]
    AfterUnstable(Events<ClientEvent>),
}

impl StatePart {
    /// The events.
    pub fn events(&self) -> &[ClientEvent] {
        match self {
            Self::Before(events) | Self::After(events) | Self::AfterUnstable(events) => &events.events,
        }
    }
}

/// What is new in a room that the user has left: up to when they left.
#[derive(Clone, Debug, Serialize)]
pub struct LeftRoom {
    /// State up to the start of the timeline, or, under one of its names, up to its end.
    #[serde(flatten)]
    pub state: StatePart,
    /// The timeline.
    pub timeline: SyncTimeline,
    /// The user's data on the room. Always there: clients expect it.
    pub account_data: Events<Box<RawValue>>,
}

impl From<JoinedRoom> for LeftRoom {
    fn from(room: JoinedRoom) -> Self {
        Self { state: room.state, timeline: room.timeline, account_data: room.account_data }
    }
}

/// A room that the user is invited to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InvitedRoom {
    /// What the user may see of the room's state, the invite included.
    pub invite_state: Events<Stripped>,
}

/// A room that the user has knocked at.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KnockedRoom {
    /// What the user may see of the room's state, the knock included.
    pub knock_state: Events<Stripped>,
}

/// A stripped state event: of a room that is stored here, or as another server sent it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Stripped {
    /// Of a room that is stored here.
    Ours(StrippedEvent),
    /// As another server sent it.
    Theirs(Box<RawValue>),
}

impl SyncResponse {
    /// Nothing is new up to here.
    pub(super) fn new(next_batch: SyncToken) -> Self {
        Self {
            next_batch,
            rooms: SyncRooms::default(),
            presence: Events::default(),
            account_data: Events::default(),
            to_device: Events::default(),
            device_lists: DeviceLists::default(),
            device_one_time_keys_count: BTreeMap::new(),
            device_unused_fallback_key_types: Vec::new(),
        }
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.presence.is_empty()
            && self.account_data.is_empty()
            && self.to_device.is_empty()
            && self.device_lists.is_empty()
    }
}
