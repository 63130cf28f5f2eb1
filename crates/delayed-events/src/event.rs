//! What is asked of the engine and what it answers: one model for single events, groups and batches.

use std::{fmt, time::Duration};

use primitives::UnixMillis;
use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, canonical_json::CanonicalJsonObject};
use storage::schema::delayed::{Outcome, TimerAction};

/// The name of a delayed event. Who knows it can act on the event, so it is never logged: [`fmt::Debug`] does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DelayId(String);

impl DelayId {
    /// A delay id as a client gave it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id, for its owner.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id, for its owner.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for DelayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DelayId(secret)")
    }
}

/// An event as a client gives it.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// The type.
    pub event_type: String,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// How long it is to be sticky (MSC4354).
    pub sticky_duration: Option<Duration>,
    /// The `origin_server_ts` that an application service asks for; `None`: the time of sending.
    pub origin_server_ts: Option<UnixMillis>,
}

/// An event to be scheduled.
#[derive(Clone, Debug)]
pub struct NewDelayed {
    /// The event. In the content of a batch's events the string `$m.send_now.event_id` stands for the id of the event sent at once.
    pub event: Event,
    /// The delay; `None`: it is only sent by an action, and must be in a group in which something has a timer.
    pub delay: Option<Duration>,
    /// The name that the door knows it by.
    pub name: Option<String>,
    /// Whether tokens are to be made, one for each action that the event knows.
    pub tokens: bool,
}

/// What a group is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// None: the events know nothing of each other. For single events.
    None,
    /// A new one.
    New,
    /// The one of this id, made if there is none.
    Named(String),
}

/// A request to schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The sender.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: Option<OwnedDeviceId>,
    /// The room.
    pub room_id: OwnedRoomId,
    /// What is scheduled: one event, or those of one batch.
    pub events: Vec<NewDelayed>,
    /// The group that the events join.
    pub group: Group,
    /// An event that is sent at once; if it is refused, nothing is scheduled.
    pub now: Option<Event>,
    /// The transaction, if the request has one.
    pub txn: Option<crate::TxnKey>,
}

/// An event that is scheduled, from the request that did so or an earlier one with the same transaction id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its id.
    pub delay_id: DelayId,
    /// The name that the door gave it.
    pub name: Option<String>,
    /// The tokens that were made for it.
    pub tokens: Vec<(TimerAction, String)>,
}

/// What came of a request to schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The events, in the order of the request.
    pub events: Vec<Scheduled>,
    /// The group's id, if there is a group.
    pub group_id: Option<String>,
    /// The event that was sent at once.
    pub sent: Option<OwnedEventId>,
}

/// What a transaction answered the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// Something was scheduled.
    Scheduled(Receipt),
    /// An event was sent at once.
    Sent(OwnedEventId),
}

/// A delayed event, for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedEvent {
    /// Its id.
    pub delay_id: DelayId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// The type.
    pub event_type: String,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content.
    pub content: CanonicalJsonObject,
    /// The delay; `None`: it has no timer.
    pub delay: Option<Duration>,
    /// When it was scheduled.
    pub scheduled_at: UnixMillis,
    /// When the delay began: scheduling or the latest restart.
    pub running_since: UnixMillis,
    /// The transaction id under which it was scheduled.
    pub transaction_id: Option<String>,
    /// The sticky duration that the event carries.
    pub sticky_duration: Option<Duration>,
    /// The group's id, if it is in one.
    pub group_id: Option<String>,
    /// The name that the door gave it.
    pub name: Option<String>,
    /// The tokens that act on it.
    pub tokens: Vec<(TimerAction, String)>,
    /// When and how it ended; `None`: it is scheduled.
    pub finalised: Option<(UnixMillis, Outcome)>,
}

impl DelayedEvent {
    /// When it is due, by the wall clock; `None`: it has no timer, or has ended.
    pub fn due(&self) -> Option<UnixMillis> {
        self.delay.filter(|_| self.finalised.is_none()).map(|delay| self.running_since.plus(delay))
    }
}

/// Which of a user's delayed events are asked for.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only events in one of these states; none given: scheduled ones.
    pub status: Vec<Status>,
    /// Only these events; none given: all.
    pub delay_ids: Vec<DelayId>,
    /// Only events of this room.
    pub room_id: Option<OwnedRoomId>,
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Only events that are due, or have ended, at this time or later.
    pub from_ts: Option<UnixMillis>,
    /// Only events that are due, or have ended, at this time or earlier.
    pub to_ts: Option<UnixMillis>,
    /// Latest first.
    pub backwards: bool,
    /// Where the page before ended.
    pub from: Option<String>,
    /// How many; `None`: [`ListQuery::DEFAULT_LIMIT`]. At most [`ListQuery::MAX_LIMIT`].
    pub limit: Option<usize>,
}

impl ListQuery {
    /// How many events a page holds if nothing is said.
    pub const DEFAULT_LIMIT: usize = 100;
    /// How many events a page holds at most.
    pub const MAX_LIMIT: usize = 1_000;
}

/// The states to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not ended.
    Scheduled,
    /// Ended by being sent.
    Sent,
    /// Ended by being cancelled.
    Cancelled,
    /// Ended by being refused.
    Failed,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The events: by due time, ended ones by the time of their ends and before scheduled ones; reversed if asked for.
    pub events: Vec<DelayedEvent>,
    /// Where the next page begins; `None`: there is none.
    pub next_batch: Option<String>,
}
