//! What goes into [`crate::Room::send`] and what comes out of it.

use std::time::Duration;

use federation_client::RemoteError;
use primitives::{StreamPosition, UnixMillis};
use ruma::{EventId, OwnedEventId, OwnedUserId, UserId, canonical_json::CanonicalJsonObject};
use storage::{Batch, CommitError, ReadError, schema::rooms::EventLocal};

/// An event of a local user that is to be made and sent.
#[derive(Debug)]
pub struct Outgoing {
    /// Who sends it: a user of this server.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: String,
    /// Its state key; `None` for a message.
    pub state_key: Option<String>,
    /// Its content.
    pub content: CanonicalJsonObject,
    /// The event that it redacts; put where the room version has it.
    pub redacts: Option<OwnedEventId>,
    /// The time that it claims; `None` for now.
    pub origin_server_ts: Option<UnixMillis>,
    /// For how long it is sticky (MSC4354), in milliseconds.
    pub sticky_duration_ms: Option<u64>,
    /// What only this server knows of it.
    pub local: EventLocal,
    /// What joins its batch.
    pub riders: Vec<Rider>,
    /// Whether it counts against the sender's limit on messages.
    pub rate_limited: bool,
}

impl Outgoing {
    /// A message, rate limited, without a rider.
    pub fn message(sender: OwnedUserId, event_type: impl Into<String>, content: CanonicalJsonObject) -> Self {
        Self {
            sender,
            event_type: event_type.into(),
            state_key: None,
            content,
            redacts: None,
            origin_server_ts: None,
            sticky_duration_ms: None,
            local: EventLocal::default(),
            riders: Vec::new(),
            rate_limited: true,
        }
    }

    /// A state event, rate limited, without a rider.
    pub fn state(
        sender: OwnedUserId,
        event_type: impl Into<String>,
        state_key: impl Into<String>,
        content: CanonicalJsonObject,
    ) -> Self {
        Self { state_key: Some(state_key.into()), ..Self::message(sender, event_type, content) }
    }
}

/// Makes the batch of a rider out of the id of the event that it joins. A worker that has to build the event anew asks again.
pub type RiderBatch = Box<dyn Fn(&EventId) -> Batch + Send + Sync>;

/// Asserts and operations that join an event's batch, so that both are written or neither; and what must hold for that.
pub struct Rider {
    /// What must not have happened in the room.
    pub unchanged: Option<SlotUnchanged>,
    /// What is written with the event.
    pub batch: RiderBatch,
}

impl Rider {
    /// A rider without a precondition.
    pub fn new(batch: impl Fn(&EventId) -> Batch + Send + Sync + 'static) -> Self {
        Self { unchanged: None, batch: Box::new(batch) }
    }
}

impl std::fmt::Debug for Rider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rider").field("unchanged", &self.unchanged).finish_non_exhaustive()
    }
}

/// The state event of a type and state key is the same as at a position, or was set by a certain user since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotUnchanged {
    /// The event type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// Changes up to this position don't count.
    pub since: StreamPosition,
    /// If given, changes made by this user don't count either.
    pub other_sender_only: Option<OwnedUserId>,
}

impl SlotUnchanged {
    /// Whether an event that is in the slot since a position leaves this true.
    pub(crate) fn allows(&self, position: StreamPosition, sender: &UserId) -> bool {
        position <= self.since || self.other_sender_only.as_deref() == Some(sender)
    }
}

/// An event that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id. For a state event that says what the room's state already says: the id of the event that said so first.
    pub event_id: OwnedEventId,
    /// The position at which it, or its rider, was written.
    pub position: StreamPosition,
}

/// Why an event was not sent. Nothing is stored then, riders included.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The rules of the room forbid it.
    #[error("{reason}")]
    Forbidden {
        /// Which rule, in words.
        reason: String,
    },
    /// The sender is not in the room.
    #[error("you are not joined to the room")]
    NotInRoom,
    /// The sender sends too much.
    #[error("too many events; try again in {} ms", retry_after.as_millis())]
    LimitExceeded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The event, or a field of it, is larger than events may be.
    #[error("the event is too large: {reason}")]
    TooLarge {
        /// What is too large.
        reason: String,
    },
    /// The content or another part of the event is not what its type asks for.
    #[error("{reason}")]
    BadContent {
        /// What is wrong with it.
        reason: String,
    },
    /// An alias in `m.room.canonical_alias` doesn't lead to the room.
    #[error("the alias {alias} does not lead to this room")]
    BadAlias {
        /// The alias.
        alias: String,
    },
    /// Something in `m.room.canonical_alias` is no alias (`M_INVALID_PARAM`).
    #[error("{alias:?} is not a room alias")]
    InvalidAlias {
        /// What it says.
        alias: String,
    },
    /// The sender has annotated the event with the same key already (`M_DUPLICATE_ANNOTATION`).
    #[error("the event has this annotation already")]
    DuplicateAnnotation,
    /// The event of which a thread is to start relates to another itself.
    #[error("a thread cannot start from an event that relates to another")]
    NoThreadRoot,
    /// A rider's assert did not hold: what it stands for was done by somebody else.
    #[error("a rider of the event has been overtaken")]
    RiderConflict,
    /// A rider's [`SlotUnchanged`] did not hold.
    #[error("the state has changed since")]
    PreconditionFailed,
    /// No such room, or it is being purged.
    #[error("the room is not known here")]
    UnknownRoom,
    /// The sender is a guest, and the room lets no guests in (`M_GUEST_ACCESS_FORBIDDEN`).
    #[error("guests are not allowed in this room")]
    GuestForbidden,
    /// The sender's account is suspended (`M_USER_SUSPENDED`).
    #[error("you cannot do this while your account is suspended")]
    Suspended,
    /// The room's rule asks for somebody who vouches for the sender, and nobody of this server may: a member of another would have to.
    #[error("nobody on this server may let you in")]
    NobodyVouches,
    /// Another server would have to take part, and this one asks none.
    #[error("the user is of another server, and this one is not in the federation")]
    RemoteUser,
    /// Another server has to take part, and doesn't.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The invited user takes no invites from the sender.
    #[error("the user takes no invites")]
    InviteBlocked,
    /// The store can't take the event now, or the server is ending.
    #[error("the room cannot be written to at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl SendError {
    pub(crate) fn forbidden(reason: impl Into<String>) -> Self {
        Self::Forbidden { reason: reason.into() }
    }

    pub(crate) fn bad(reason: impl Into<String>) -> Self {
        Self::BadContent { reason: reason.into() }
    }
}

impl From<CommitError> for SendError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::TooLarge(_) | CommitError::ValueTooLarge { .. } => {
                Self::TooLarge { reason: error.to_string() }
            }
            CommitError::Conflict(_) | CommitError::Failed(_) => Self::Unavailable,
        }
    }
}

impl From<crate::PduError> for SendError {
    fn from(error: crate::PduError) -> Self {
        if error.is_size() { Self::TooLarge { reason: error.to_string() } } else { Self::bad(error.to_string()) }
    }
}

impl From<crate::AuthError> for SendError {
    fn from(error: crate::AuthError) -> Self {
        match error {
            crate::AuthError::Forbidden { reason } => Self::Forbidden { reason },
            crate::AuthError::StateKey => Self::bad(error.to_string()),
        }
    }
}
