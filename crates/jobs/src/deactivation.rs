//! A deactivated user leaves every room, rejects every invite and withdraws every knock (client-server API, `POST /account/deactivate`).
//!
//! Whoever deactivates an account hands [`rider`] to [`users::Users::deactivate`] and calls [`Jobs::wake`] afterwards; [`Jobs::deactivate`] does both.

use futures_util::future::BoxFuture;
use primitives::UserNid;
use rooms::{Details, Rooms};
use ruma::OwnedDeviceId;
use storage::{
    Batch, Key, Storage,
    schema::{
        jobs::{self, JobKind},
        rooms::Membership,
    },
};
use users::{DeactivateError, Status, Users};

use crate::{
    Jobs,
    kind::{Kind, Next, StepError, room, settle},
    memberships,
};

const NAME: &str = "deactivation";

/// What is to be written in the batch that deactivates an account.
pub fn rider(user: UserNid) -> Batch {
    let mut batch = Batch::new();
    jobs::begin(&mut batch, JobKind::DEACTIVATION, &(user,));
    batch
}

impl Jobs {
    /// Deactivates an account for ever, and has its user leave all rooms in the background. Answers which devices there were.
    pub async fn deactivate(&self, user: UserNid, erase: bool) -> Result<Vec<OwnedDeviceId>, DeactivateError> {
        let devices = self.0.users.deactivate(user, erase, &rider(user)).await?;
        self.wake();
        Ok(devices)
    }
}

pub(crate) struct Deactivation {
    storage: Storage,
    users: Users,
    rooms: Rooms,
    rooms_per_step: usize,
}

impl Deactivation {
    pub(crate) fn new(storage: Storage, users: Users, rooms: Rooms, rooms_per_step: usize) -> Self {
        Self { storage, users, rooms, rooms_per_step }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((user,)) = <(UserNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        let deactivated = self.users.account(user).await?.is_some_and(|account| account.status == Status::Deactivated);
        let Some(user_id) = self.users.user_id(user).await?.filter(|_| deactivated) else { return Ok(Next::Done) };
        let page = memberships::page(&self.storage, user, cursor, self.rooms_per_step).await?;
        let there = |membership| matches!(membership, Membership::Join | Membership::Invite | Membership::Knock);
        for (nid, _) in page.rooms.into_iter().filter(|(_, membership)| there(*membership)) {
            if let Some(room) = room(&self.rooms, nid).await? {
                settle(NAME, room.leave(&user_id, Details::default()).await)?;
            }
        }
        Ok(Next::after(page.last.as_ref()))
    }
}

impl Kind for Deactivation {
    fn number(&self) -> JobKind {
        JobKind::DEACTIVATION
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
