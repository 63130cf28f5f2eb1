//! Forgetting a room that one has left.

use primitives::StreamPosition;
use ruma::UserId;
use storage::{
    Batch, CommitError, Positioned, ReadError,
    schema::rooms::{Membership, MembershipRow, Memberships, UserLog, UserLogEntry},
};

use crate::room::Room;

/// Attempts at a membership that changes meanwhile.
const ATTEMPTS: usize = 8;

/// Why a room was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The user has joined it, is invited or has knocked.
    #[error("the room has to be left first")]
    StillThere,
    /// The user never had to do with the room.
    #[error("you have never been in the room")]
    NeverThere,
    /// The store can't take it now.
    #[error("rooms cannot be forgotten at the moment")]
    Unavailable,
    /// The store could not be read.
    #[error(transparent)]
    Storage(#[from] ReadError),
}

impl Room {
    /// Forgets the room for a local user who has left it: it is in no list of theirs any more. Doing it twice is doing it once.
    pub async fn forget(&self, user: &UserId) -> Result<(), ForgetError> {
        let context = self.context();
        let Some(nid) = context.user_nid(user).await? else { return Err(ForgetError::NeverThere) };
        let key = (nid, self.nid());
        for _ in 0..ATTEMPTS {
            let row = context.storage.view().get::<Memberships>(&key).await?.ok_or(ForgetError::NeverThere)?;
            if !matches!(row.value.membership, Membership::Leave | Membership::Ban) {
                return Err(ForgetError::StillThere);
            }
            if row.value.forgotten {
                return Ok(());
            }
            // The position stays that of the membership.
            let forgotten = MembershipRow { forgotten: true, ..row.value.clone() };
            let forgotten = Positioned { position: row.position, value: forgotten };
            let mut batch = Batch::new();
            batch.assert_equals::<Memberships>(&key, &row).put::<Memberships>(&key, &forgotten);
            let log = (nid, StreamPosition::PENDING, 0);
            batch.put::<UserLog>(&log, &UserLogEntry::Forget { room: self.nid() });
            match context.storage.commit(batch).await {
                Ok(position) => {
                    context.users.wakeups().wake(nid, position);
                    return Ok(());
                }
                Err(CommitError::Conflict(_)) => {}
                Err(_) => break,
            }
        }
        Err(ForgetError::Unavailable)
    }
}
