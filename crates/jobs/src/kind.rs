//! What a kind of job is.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rooms::{DeviceChangeError, RoomError, SendError};
use storage::{CommitError, Key, ReadError, schema::jobs::JobKind};
use users::StoreError;

/// How a step of a job has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to do.
    More {
        /// Where the next step begins, in the words of the kind; never empty.
        cursor: Vec<u8>,
        /// How long to wait before it.
        pause: Duration,
    },
    /// Everything is done.
    Done,
}

impl Next {
    /// Goes on at once after what `last` names; `None`: there is nothing after it.
    pub fn after(last: Option<&impl Key>) -> Self {
        match last {
            Some(last) => Self::More { cursor: last.to_bytes().into_parts().0, pause: Duration::ZERO },
            None => Self::Done,
        }
    }

    /// The same, but not before a pause.
    #[must_use]
    pub fn paused(self, pause: Duration) -> Self {
        match self {
            Self::More { cursor, .. } => Self::More { cursor, pause },
            Self::Done => Self::Done,
        }
    }
}

/// Why a step was not done. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The accounts' part of the store failed.
    #[error(transparent)]
    Users(#[from] StoreError),
    /// A room does not take an event now.
    #[error("a room cannot be written to: {0}")]
    Room(SendError),
    /// The step has panicked.
    #[error("the step has panicked: {0}")]
    Panicked(String),
}

impl From<DeviceChangeError> for StepError {
    fn from(error: DeviceChangeError) -> Self {
        match error {
            DeviceChangeError::Read(error) => Self::Read(error),
            DeviceChangeError::Commit(error) => Self::Commit(error),
        }
    }
}

/// A kind of job. Its id and its cursor are bytes of its own; a cursor that makes no sense is taken for the beginning.
pub trait Kind: Send + Sync + 'static {
    /// Its number.
    fn number(&self) -> JobKind;

    /// Its name, in metrics and logs.
    fn name(&self) -> &'static str;

    /// Does the next bounded piece of a job: what comes after `cursor`, which is empty at the beginning. May be done again, and by then with things
    /// changed: it looks at what is, not at what was.
    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>>;
}

/// What the answer of a room means to a job that goes through rooms: what may work later is an error, a room's last word is noted and left at that.
pub(crate) fn settle<T>(kind: &'static str, answer: Result<T, SendError>) -> Result<Option<T>, StepError> {
    match answer {
        Ok(done) => Ok(Some(done)),
        Err(error @ (SendError::Unavailable | SendError::LimitExceeded { .. })) => Err(StepError::Room(error)),
        Err(SendError::Storage(error)) => Err(error.into()),
        Err(SendError::UnknownRoom) => Ok(None),
        Err(error) => {
            tracing::warn!(kind, %error, "a room refuses what a job does");
            Ok(None)
        }
    }
}

/// A room by its number; `None` if it has gone.
pub(crate) async fn room(rooms: &rooms::Rooms, nid: primitives::RoomNid) -> Result<Option<rooms::Room>, StepError> {
    match rooms.room_by_number(nid).await {
        Ok(room) => Ok(Some(room)),
        Err(RoomError::Unknown) => Ok(None),
        Err(RoomError::Storage(error)) => Err(error.into()),
    }
}
