//! The engine's way to the real rooms and users.

use std::time::Duration;

use futures_util::future::BoxFuture;
use primitives::{Random, SharedClock, StreamPosition, UserNid};
use rooms::{Outgoing, Rider, RoomError, Rooms, SendError, Sent, SlotUnchanged};
use ruma::{OwnedUserId, RoomId, UserId};
use storage::{
    Batch, Storage,
    schema::delayed::{Failure, FailureKind, NewerState},
};
use users::{Status, TxnKey, Users};

use crate::{
    DelayedEvents, Options, Refusal, StoreError,
    outside::{Accepted, NotSent, Outside, Sending, SlotOf},
};

impl DelayedEvents {
    /// Loads everything that is scheduled. Nothing is sent before [`Self::run`].
    pub async fn open(
        storage: Storage,
        users: Users,
        rooms: Rooms,
        clock: SharedClock,
        random: Random,
        options: Options,
    ) -> Result<Self, StoreError> {
        Self::with_outside(storage, Box::new(Live { users, rooms }), clock, random, options).await
    }
}

struct Live {
    users: Users,
    rooms: Rooms,
}

impl From<users::StoreError> for StoreError {
    fn from(error: users::StoreError) -> Self {
        match error {
            users::StoreError::Read(error) => Self::Read(error),
            users::StoreError::Commit(error) => Self::Commit(error),
            users::StoreError::Contended => Self::Contended,
        }
    }
}

/// That a slot has not been taken, in the words of rooms. `None`: nobody's taking it would matter.
fn unchanged(
    event_type: &str,
    state_key: &str,
    owner: &UserId,
    since: StreamPosition,
    by: NewerState,
) -> Option<SlotUnchanged> {
    let other_sender_only = match by {
        NewerState::Ignored => return None,
        NewerState::OtherSenderCancels => Some(owner.to_owned()),
        NewerState::Cancels => None,
    };
    Some(SlotUnchanged { event_type: event_type.to_owned(), state_key: state_key.to_owned(), since, other_sender_only })
}

impl Live {
    async fn send_into_room(&self, event: Sending) -> Result<Accepted, NotSent> {
        let room = match self.rooms.room(&event.room_id).await {
            Ok(room) => room,
            Err(RoomError::Unknown) => return Err(NotSent::NoRoom),
            Err(RoomError::Storage(error)) => return Err(NotSent::Fault(error.to_string())),
        };
        let unchanged = match (&event.state_key, event.gives_way) {
            (Some(state_key), Some((since, by))) => unchanged(&event.event_type, state_key, &event.sender, since, by),
            _ => None,
        };
        let sticky = event.sticky_duration.and_then(|span| u64::try_from(span.as_millis()).ok());
        let outgoing = Outgoing {
            state_key: event.state_key,
            origin_server_ts: event.origin_server_ts,
            sticky_duration_ms: sticky,
            local: event.local,
            riders: vec![Rider { unchanged, batch: event.rider }],
            ..Outgoing::message(event.sender, event.event_type, event.content)
        };
        let Sent { event_id, position } = room.send(outgoing).await.map_err(|error| not_sent(&error))?;
        Ok(Accepted { event_id, position })
    }
}

fn not_sent(error: &SendError) -> NotSent {
    let refused = |kind, retry_after: Option<Duration>| {
        NotSent::Refused(Refusal { failure: Failure { kind, message: error.to_string() }, retry_after })
    };
    match error {
        SendError::Forbidden { .. } | SendError::NotInRoom | SendError::Suspended => {
            refused(FailureKind::Forbidden, None)
        }
        SendError::LimitExceeded { retry_after } => refused(FailureKind::LimitExceeded, Some(*retry_after)),
        SendError::TooLarge { .. } => refused(FailureKind::TooLarge, None),
        SendError::BadContent { .. } | SendError::BadAlias { .. } | SendError::InvalidAlias { .. } => {
            refused(FailureKind::BadContent, None)
        }
        SendError::RemoteUser
        | SendError::Remote(_)
        | SendError::NobodyVouches
        | SendError::InviteBlocked
        | SendError::GuestForbidden
        | SendError::DuplicateAnnotation
        | SendError::NoThreadRoot => refused(FailureKind::Other, None),
        SendError::RiderConflict => NotSent::Lost,
        SendError::PreconditionFailed => NotSent::NewerState,
        SendError::UnknownRoom => NotSent::NoRoom,
        SendError::Unavailable | SendError::Storage(_) => NotSent::Fault(error.to_string()),
    }
}

impl Outside for Live {
    fn send(&self, event: Sending) -> BoxFuture<'_, Result<Accepted, NotSent>> {
        Box::pin(self.send_into_room(event))
    }

    fn knows_room<'a>(&'a self, room: &'a RoomId) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            match self.rooms.room(room).await {
                Ok(_) => Ok(true),
                Err(RoomError::Unknown) => Ok(false),
                Err(RoomError::Storage(error)) => Err(error.into()),
            }
        })
    }

    fn slot_taken<'a>(
        &'a self,
        slot: SlotOf<'a>,
        since: StreamPosition,
        by: NewerState,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let Some(unchanged) = unchanged(slot.event_type, slot.state_key, slot.owner, since, by) else {
                return Ok(false);
            };
            match self.rooms.room(slot.room_id).await {
                Ok(room) => Ok(!room.is_unchanged(&unchanged).await?),
                // What becomes of it is decided when it is due.
                Err(RoomError::Unknown) => Ok(false),
                Err(RoomError::Storage(error)) => Err(error.into()),
            }
        })
    }

    fn nid<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserNid>, StoreError>> {
        Box::pin(async move { Ok(self.users.nid(user).await?) })
    }

    fn name(&self, user: UserNid) -> BoxFuture<'_, Result<Option<OwnedUserId>, StoreError>> {
        Box::pin(async move { Ok(self.users.user_id(user).await?) })
    }

    fn active(&self, user: UserNid) -> BoxFuture<'_, Result<Option<OwnedUserId>, StoreError>> {
        Box::pin(async move {
            let account = self.users.account(user).await?;
            Ok(account.filter(|account| account.status == Status::Active).map(|account| account.user_id))
        })
    }

    fn answered<'a>(&'a self, txn: &'a TxnKey) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(async move { Ok(self.users.transactions().lookup(txn).await?) })
    }

    fn answer(&self, txn: &TxnKey, result: &str) -> Batch {
        self.users.transactions().record(txn, result)
    }
}
