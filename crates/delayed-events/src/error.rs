//! What can go wrong, with what every door needs to say it in its own words.

use std::time::Duration;

use ruma::OwnedEventId;
use storage::{CommitError, ReadError, schema::delayed::Failure};

use crate::life::State;

/// The store, or the rooms and users behind the engine, could not do what was asked of them. Trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something could not be written.
    #[error(transparent)]
    Commit(CommitError),
    /// Rooms or users failed.
    #[error("{0}")]
    Outside(String),
    /// Others kept winning the race for the same event.
    #[error("too many changes of one delayed event at once")]
    Contended,
}

/// Why nothing was scheduled.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Delayed events are switched off.
    #[error("delayed events are disabled on this server")]
    Disabled,
    /// The delay is not a positive number of milliseconds.
    #[error("the delay must be at least one millisecond")]
    NoDelay,
    /// The delay is longer than is allowed.
    #[error("the delay is longer than {} ms", max.as_millis())]
    DelayTooLarge {
        /// The longest delay.
        max: Duration,
    },
    /// The user has as many events scheduled as are allowed.
    #[error("{limit} delayed events are scheduled already")]
    TooMany {
        /// How many are allowed.
        limit: u32,
        /// When there will be room, if nothing else happens.
        retry_after: Duration,
    },
    /// The user schedules too often.
    #[error("scheduling too often")]
    TooFast {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The server knows no such room.
    #[error("unknown room")]
    UnknownRoom,
    /// The server has no such user.
    #[error("not a user of this server")]
    UnknownUser,
    /// The user's account is suspended.
    #[error("you cannot do this while your account is suspended")]
    Suspended,
    /// Once built, the event would be larger than an event may be; or its type or state key is too long.
    #[error("the event is too large")]
    TooLarge,
    /// The group belongs to somebody else.
    #[error("the group belongs to another user")]
    GroupOfOther,
    /// One of the group has been sent, or its last timer has gone.
    #[error("the group has ended")]
    GroupEnded,
    /// Nothing in the group has a timer.
    #[error("nothing in the group has a timer")]
    GroupWithoutTimer,
    /// The group has as many events as it may have, or none at all were given.
    #[error("a group holds between 1 and {max} events")]
    GroupSize {
        /// How many it may have.
        max: usize,
    },
    /// The transaction id has been used for something that is no delayed event: this is what came of it.
    #[error("the transaction id has been used to send an event")]
    AlreadySent(OwnedEventId),
    /// What was to be sent at once was refused.
    #[error("refused: {}", .0.failure.message)]
    Refused(Refusal),
    /// A fault of the server.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A refusal of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What and why.
    pub failure: Failure,
    /// When to try again, where it is a matter of time.
    pub retry_after: Option<Duration>,
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// There is no such delayed event, or it is not the asker's.
    #[error("unknown delayed event")]
    NotFound,
    /// What has happened to it already rules the action out.
    #[error("the delayed event is {0:?}")]
    Conflict(State),
    /// Restarted too often.
    #[error("restarted too often")]
    TooFast {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The room refused to take the event. It is still scheduled.
    #[error("refused: {}", .0.failure.message)]
    Refused(Refusal),
    /// Too many unknown tokens in a row.
    #[error("too many unknown tokens")]
    TooManyGuesses {
        /// How long to wait.
        retry_after: Duration,
    },
    /// A fault of the server.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// `from` is not a token of an earlier page.
    #[error("the pagination token is not one of this list")]
    BadToken,
    /// A fault of the server.
    #[error(transparent)]
    Store(#[from] StoreError),
}

macro_rules! from_read {
    ($($name:ident),*) => {$(
        impl From<ReadError> for $name {
            fn from(error: ReadError) -> Self {
                Self::Store(StoreError::Read(error))
            }
        }
    )*};
}
from_read!(ScheduleError, ActError, ListError);
