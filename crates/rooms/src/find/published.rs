//! Putting rooms into the directory and taking them out (client-server API, `PUT /directory/list/room/{roomId}`).

use ruma::UserId;
use storage::{Batch, ReadError, schema::rooms::PublishedRooms};

use crate::{
    alias::may_name,
    context::{Context, read_error},
    outgoing::SendError,
    room::Room,
};

/// Who may put rooms into the directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MayPublish {
    /// Whoever has the power to name the room, and administrators.
    #[default]
    Members,
    /// Administrators.
    Admins,
    /// Nobody.
    Nobody,
}

/// Why a room was not put into the directory, or not taken out.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The room is not known here (404).
    #[error("the room is not known here")]
    UnknownRoom,
    /// The user may not do it (403).
    #[error("{0}")]
    Forbidden(&'static str),
    /// The store can't be written now.
    #[error("the directory cannot be changed at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl From<SendError> for PublishError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::UnknownRoom => Self::UnknownRoom,
            SendError::Storage(error) => Self::Storage(error),
            _ => Self::Unavailable,
        }
    }
}

impl Room {
    /// Puts the room into the directory, or takes it out. Doing it twice is doing it once.
    pub async fn publish(&self, by: &UserId, public: bool) -> Result<(), PublishError> {
        let is_admin = is_admin(self.context(), by).await?;
        if !is_admin && !may_name(Some(self), by).await? {
            return Err(PublishError::Forbidden("you may not change whether this room is in the directory"));
        }
        if public {
            self.context().check_may_publish(is_admin)?;
        }
        let mut batch = Batch::new();
        if public {
            batch.put::<PublishedRooms>(&(self.nid(),), &());
        } else {
            batch.delete::<PublishedRooms>(&(self.nid(),));
        }
        self.context().storage.commit(batch).await.map(drop).map_err(|_| PublishError::Unavailable)
    }
}

impl Context {
    /// Whether somebody who makes a room may put it into the directory at once.
    pub(crate) async fn check_publishes(&self, user: &UserId) -> Result<(), PublishError> {
        self.check_may_publish(is_admin(self, user).await?)
    }

    fn check_may_publish(&self, is_admin: bool) -> Result<(), PublishError> {
        match self.options.may_publish {
            MayPublish::Members => Ok(()),
            MayPublish::Admins if is_admin => Ok(()),
            MayPublish::Admins => Err(PublishError::Forbidden("only administrators put rooms into the directory")),
            MayPublish::Nobody => Err(PublishError::Forbidden("this server's directory takes no rooms")),
        }
    }
}

async fn is_admin(context: &Context, user: &UserId) -> Result<bool, ReadError> {
    let Some(nid) = context.user_nid(user).await? else { return Ok(false) };
    Ok(context.users.account(nid).await.map_err(read_error)?.is_some_and(|account| account.is_admin))
}
