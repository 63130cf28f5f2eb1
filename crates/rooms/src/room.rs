//! One room, as everybody outside its worker has it.

use std::sync::Arc;

use primitives::{RoomNid, StreamPosition};
use ruma::RoomId;
use storage::ReadError;
use tokio::sync::oneshot;
use users::{Limit, News};

use crate::{
    RoomVersion,
    context::{Context, read_error},
    current::Current,
    memory::RoomInfo,
    outgoing::{Outgoing, SendError, Sent, SlotUnchanged},
    registry::Rooms,
    worker::{Appending, NotTaken, Request, SendRequest},
};

/// How often an event is made for a policy server to sign it, while the room changes.
const ATTEMPTS: usize = 3;

/// A handle to a room. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Room {
    rooms: Rooms,
    info: Arc<RoomInfo>,
}

impl Room {
    pub(crate) fn new(rooms: Rooms, info: Arc<RoomInfo>) -> Self {
        Self { rooms, info }
    }

    /// The room's id.
    pub fn id(&self) -> &RoomId {
        &self.info.room_id
    }

    /// The room's number on this server.
    pub fn nid(&self) -> RoomNid {
        self.info.nid
    }

    /// The room's version.
    pub fn version(&self) -> RoomVersion {
        self.info.version
    }

    /// Makes an event of a local user and sends it, with its riders, in one batch. When this returns, the event is durable and every later
    /// view shows it. A state event that repeats what the state says is not sent again: the first one's id is the answer.
    pub async fn send(&self, mut outgoing: Outgoing) -> Result<Sent, SendError> {
        if outgoing.rate_limited
            && let Some(user) = self.context().users.nid(&outgoing.sender).await.map_err(read_error)?
        {
            let checked = self.context().users.limits().check(Limit::Messages(user));
            checked.map_err(|exceeded| SendError::LimitExceeded { retry_after: exceeded.retry_after })?;
        }
        crate::suspension::check(self, &outgoing).await?;
        self.until_target_known(&outgoing).await?;
        crate::canonical_alias::check(self, &outgoing).await?;
        crate::relating::check(self, &outgoing).await?;
        self.vouch(&mut outgoing).await?;
        crate::membership::check(self, &outgoing).await?;
        if let Some(target) = crate::membership::remote_invitee(self.context(), &outgoing) {
            return self.send_invite(&target, outgoing).await;
        }
        let mut outgoing = Box::new(outgoing);
        let mut error = SendError::Unavailable;
        for _ in 0..ATTEMPTS {
            let unsigned = match self.append(outgoing).await? {
                Appending::Sent(sent) => return Ok(sent),
                Appending::Unsigned(pdu, made_of) => (pdu, made_of),
            };
            // Where the room has gone on meanwhile, the signed event stands beside what has come. Only if it may not stand there it is made and signed anew.
            let pdu = self.signed_by_policy(unsigned.0).await?;
            outgoing = unsigned.1;
            let riders = std::mem::take(&mut outgoing.riders);
            match self.take_own(pdu, outgoing.local.clone(), riders).await {
                Ok(sent) => return Ok(sent),
                Err(NotTaken { error: refused, riders: Some(riders) }) => (outgoing.riders, error) = (riders, refused),
                Err(NotTaken { error, riders: None }) => return Err(error),
            }
        }
        Err(error)
    }

    async fn append(&self, outgoing: Box<Outgoing>) -> Result<Appending, SendError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Send(SendRequest { outgoing, reply });
        self.rooms.ask(&self.info, request).await.map_err(|_| SendError::Unavailable)?;
        // A worker that dies without an answer has written nothing that it knows of.
        answer.await.unwrap_or(Err(SendError::Unavailable))
    }

    /// Whether the room's state stands as a rider's precondition asks. Says nothing of what the worker will find: it judges again.
    pub async fn is_unchanged(&self, slot: &SlotUnchanged) -> Result<bool, ReadError> {
        let Some(state) = Current::read(self.context(), &self.info).await? else { return Ok(true) };
        let event = state.stored(&slot.event_type, &slot.state_key).await?;
        Ok(event.is_none_or(|event| slot.allows(event.position, event.pdu.sender())))
    }

    /// Wakes the requests of all who are in the room: there is something for them at this position.
    pub(crate) async fn wake_members(&self, position: StreamPosition) -> Result<(), ReadError> {
        self.rooms().wake_all_in(self.nid(), News { position, ephemeral: 0 }).await
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        self.rooms.context()
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(crate) fn info(&self) -> &Arc<RoomInfo> {
        &self.info
    }
}
