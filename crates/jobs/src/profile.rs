//! A change of the display name or the avatar is carried into the member events of every room that the user has joined (client-server API, "Events
//! on Change of Profile Information").
//!
//! A step reads the profile as it is then, and a newer change begins the job anew, so that after two changes every room has the newer one. A name that
//! the user set for one room alone is overwritten.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::UserNid;
use rooms::{Rooms, SendError, membership::PROFILE_FIELDS};
use ruma::{CanonicalJsonValue, UserId};
use storage::{
    Batch, Key, Storage,
    schema::{
        jobs::{self, JobKind},
        rooms::Membership,
    },
};
use users::{ProfileChange, ProfileError, Status, Users};

use crate::{
    Jobs, Options,
    kind::{Kind, Next, StepError, room, settle},
    memberships,
};

/// Attempts at a member event that changes meanwhile.
const ATTEMPTS: usize = 4;
const NAME: &str = "profile";

/// What is to be written with a change of a user's display name or avatar. Then [`Jobs::wake`].
pub fn rider(user: UserNid) -> Batch {
    let mut batch = Batch::new();
    jobs::begin(&mut batch, JobKind::PROFILE, &(user,));
    batch
}

fn rider_of(user: UserNid, field: &str) -> Batch {
    if PROFILE_FIELDS.contains(&field) { rider(user) } else { Batch::new() }
}

impl Jobs {
    /// Sets a field of a profile, and has it carried into the user's rooms if it is one that member events show.
    pub async fn set_profile_field(
        &self,
        user: UserNid,
        field: &str,
        value: CanonicalJsonValue,
    ) -> Result<ProfileChange, ProfileError> {
        let change = self.0.users.profiles().set(user, field, value, &rider_of(user, field)).await?;
        self.wake();
        Ok(change)
    }

    /// Removes a field of a profile, as [`Self::set_profile_field`] sets one.
    pub async fn remove_profile_field(&self, user: UserNid, field: &str) -> Result<ProfileChange, ProfileError> {
        let change = self.0.users.profiles().remove(user, field, &rider_of(user, field)).await?;
        self.wake();
        Ok(change)
    }
}

pub(crate) struct Profile {
    storage: Storage,
    users: Users,
    rooms: Rooms,
    rooms_per_step: usize,
    /// Between two events.
    pause: Duration,
}

impl Profile {
    pub(crate) fn new(storage: Storage, users: Users, rooms: Rooms, options: &Options) -> Self {
        let pause = Duration::try_from_secs_f64(options.profile_events_per_second.recip()).unwrap_or(Duration::ZERO);
        Self { storage, users, rooms, rooms_per_step: options.items_per_step, pause }
    }

    async fn next(&self, id: &[u8], cursor: &[u8]) -> Result<Next, StepError> {
        let Some((user,)) = <(UserNid,)>::from_bytes(id) else { return Ok(Next::Done) };
        // One who is deactivated leaves instead.
        let here = self.users.account(user).await?.is_some_and(|account| account.status != Status::Deactivated);
        let Some(user_id) = self.users.user_id(user).await?.filter(|_| here) else { return Ok(Next::Done) };
        let page = memberships::page(&self.storage, user, cursor, self.rooms_per_step).await?;
        let mut sent = 0;
        for (nid, _) in page.rooms.into_iter().filter(|(_, membership)| *membership == Membership::Join) {
            if let Some(room) = room(&self.rooms, nid).await? {
                sent += u32::from(carry(&room, &user_id).await?);
            }
        }
        Ok(Next::after(page.last.as_ref()).paused(self.pause.saturating_mul(sent)))
    }
}

/// Answers whether the room got an event.
async fn carry(room: &rooms::Room, user: &UserId) -> Result<bool, StepError> {
    for _ in 0..ATTEMPTS {
        match room.carry_profile(user).await {
            // The member event is another now: it may be that of a leave.
            Err(SendError::PreconditionFailed) => {}
            answer => return Ok(settle(NAME, answer)?.unwrap_or(false)),
        }
    }
    Err(StepError::Room(SendError::PreconditionFailed))
}

impl Kind for Profile {
    fn number(&self) -> JobKind {
        JobKind::PROFILE
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn step<'a>(&'a self, id: &'a [u8], cursor: &'a [u8]) -> BoxFuture<'a, Result<Next, StepError>> {
        Box::pin(self.next(id, cursor))
    }
}
