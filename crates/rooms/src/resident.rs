//! What this server does for users of others who come into rooms that it is in, and go out of them (server-server API, "Joining Rooms", "Knocking
//! upon a room", "Leaving Rooms").
//!
//! Twice a server asks: for a template, then with the event that it has made of it and signed. The event is checked as if there had been no template, and
//! goes through `receive` like any other.

mod answer;
mod membership;
mod template;
mod third_party;

use std::time::Duration;

use ruma::{OwnedEventId, OwnedServerName};
use storage::ReadError;

pub use answer::JoinAnswer;
pub use federation_client::calls::membership::Making;

use crate::{RoomVersion, membership::NotVouched, outgoing::SendError, receive::ReceiveError, staging::StageError};

/// Why another server isn't helped.
#[derive(Debug, thiserror::Error)]
pub enum ResidentError {
    /// This server is not in the room, or doesn't know enough of it.
    #[error("this server is not in the room")]
    UnknownRoom,
    /// The other server doesn't know the room's version (`M_INCOMPATIBLE_ROOM_VERSION`).
    #[error("the room is of version {0}")]
    IncompatibleVersion(RoomVersion),
    /// This server doesn't know the room's version (`M_INCOMPATIBLE_ROOM_VERSION`).
    #[error("room version {0:?} is not known here")]
    UnknownVersion(String),
    /// What came is not the event that it should be (`M_INVALID_PARAM`).
    #[error("{0}")]
    Invalid(String),
    /// The room doesn't allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The invited user takes no invites from the sender (`M_INVITE_BLOCKED`).
    #[error("the user takes no invites")]
    InviteBlocked,
    /// The user is invited too often.
    #[error("too many invites; try again in {} ms", .0.as_millis())]
    LimitExceeded(Duration),
    /// Whether the user may join, other servers know (`M_UNABLE_TO_AUTHORISE_JOIN`).
    #[error("this server cannot tell whether the user may join")]
    UnableToAuthorise,
    /// The user may join, and a member of another server must vouch (`M_UNABLE_TO_GRANT_JOIN`).
    #[error("nobody on this server may let the user in")]
    UnableToGrant,
    /// The room can't be written to now.
    #[error("the room cannot be written to at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<SendError> for ResidentError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::UnknownRoom => Self::UnknownRoom,
            SendError::Storage(error) => Self::Storage(error),
            SendError::Unavailable | SendError::RiderConflict | SendError::PreconditionFailed => Self::Unavailable,
            SendError::InviteBlocked => Self::InviteBlocked,
            SendError::LimitExceeded { retry_after } => Self::LimitExceeded(retry_after),
            SendError::NobodyVouches => Self::UnableToGrant,
            SendError::BadContent { .. } | SendError::TooLarge { .. } => Self::Invalid(error.to_string()),
            other => Self::Forbidden(other.to_string()),
        }
    }
}

impl From<StageError> for ResidentError {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Storage(error) => Self::Storage(error),
            StageError::Version => Self::Invalid(error.to_string()),
            StageError::Missing(_) | StageError::Refused(_) => Self::Forbidden(error.to_string()),
            StageError::Joined | StageError::RiderConflict | StageError::Unavailable => Self::Unavailable,
        }
    }
}

impl From<NotVouched> for ResidentError {
    fn from(error: NotVouched) -> Self {
        match error {
            NotVouched::NotAMember => Self::Forbidden(error.to_string()),
            NotVouched::CannotTell => Self::UnableToAuthorise,
            NotVouched::Nobody => Self::UnableToGrant,
            NotVouched::Storage(error) => Self::Storage(error),
        }
    }
}

impl From<ReceiveError> for ResidentError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::UnknownRoom => Self::UnknownRoom,
            ReceiveError::Unavailable => Self::Unavailable,
            ReceiveError::Storage(error) => Self::Storage(error),
        }
    }
}

/// A member event that another server sends, and what it says of it.
#[derive(Debug)]
pub struct Submitted {
    /// The server that sends it.
    pub origin: OwnedServerName,
    /// What it is for.
    pub making: Making,
    /// The id that it has in the request's path.
    pub event_id: OwnedEventId,
    /// The event's JSON.
    pub json: Vec<u8>,
}
