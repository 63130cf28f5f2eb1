//! What can go wrong where a user comes into a room, or goes out of it, through other servers.

use federation_client::RemoteError;
use storage::ReadError;

use crate::{ReceiveError, SendError, StageError};

/// Why a user did not come into a room, or go out of it, through other servers.
#[derive(Debug, thiserror::Error)]
pub enum RemoteMembershipError {
    /// This server refuses it by itself, or takes it to its own room and that refuses.
    #[error(transparent)]
    Here(#[from] SendError),
    /// No server is known that could be asked.
    #[error("no server is known that is in the room")]
    NobodyToAsk,
    /// The last server that was asked refused, or did not answer.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The room is of a version that this server doesn't know (`M_INCOMPATIBLE_ROOM_VERSION`).
    #[error("the room is of version {0:?}, which this server does not know")]
    UnsupportedVersion(String),
    /// The room that another server sent is not one that this server can take in.
    #[error("the room as the other server has it can't be taken in: {0}")]
    Unusable(String),
}

impl From<ReadError> for RemoteMembershipError {
    fn from(error: ReadError) -> Self {
        Self::Here(error.into())
    }
}

impl From<ReceiveError> for RemoteMembershipError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::UnknownRoom => Self::Here(SendError::UnknownRoom),
            ReceiveError::Unavailable => Self::Here(SendError::Unavailable),
            ReceiveError::Storage(error) => error.into(),
        }
    }
}

impl From<StageError> for RemoteMembershipError {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Storage(error) => error.into(),
            StageError::Unavailable | StageError::RiderConflict => Self::Here(SendError::Unavailable),
            StageError::Missing(_) | StageError::Refused(_) | StageError::Joined | StageError::Version => {
                Self::Unusable(error.to_string())
            }
        }
    }
}

impl RemoteMembershipError {
    /// Of the errors of several servers, the one that says most: a room's refusal more than a server that is gone.
    pub(super) fn or(self, later: Self) -> Self {
        let weight = |error: &Self| match error {
            Self::Here(_) => 4,
            Self::Remote(RemoteError::Refused { status, .. }) if status.as_u16() == 403 => 3,
            Self::Remote(RemoteError::Refused { .. }) | Self::UnsupportedVersion(_) | Self::Unusable(_) => 2,
            Self::Remote(_) => 1,
            Self::NobodyToAsk => 0,
        };
        if weight(&later) >= weight(&self) { later } else { self }
    }
}
