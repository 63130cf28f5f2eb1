//! Typing, receipts and presence of other servers' users (server-server API, "Typing Notifications", "Receipts", "Presence").

use std::{collections::BTreeMap, time::Duration};

use rooms::{ReceiptError, RemoteReceipt, Room, RoomError, Thread, typing::TypingError};
use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName};
use serde::Deserialize;
use users::presence::{MAX_STATUS_BYTES, PresenceState, RemotePresence};

use super::edu::{Edu, EduError};
use crate::Federation;

/// Users of whom one EDU may tell, in all its rooms. More are passed over.
const MAX_USERS: usize = 1_000;
/// The longest id of an event.
const MAX_EVENT_ID_BYTES: usize = 255;

#[derive(Deserialize)]
struct Typing {
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    #[serde(rename = "typing")]
    types: bool,
}

/// By room and type of receipt.
type Receipts = BTreeMap<OwnedRoomId, BTreeMap<String, BTreeMap<OwnedUserId, ReadUpTo>>>;

#[derive(Deserialize)]
struct ReadUpTo {
    #[serde(default)]
    data: ReceiptData,
    /// As the other server has them: what is not known here need not look like an id.
    event_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
struct ReceiptData {
    #[serde(default)]
    ts: u64,
    thread_id: Option<String>,
}

#[derive(Deserialize)]
struct Presence {
    push: Vec<Push>,
}

#[derive(Deserialize)]
struct Push {
    user_id: OwnedUserId,
    presence: String,
    status_msg: Option<String>,
    last_active_ago: Option<u64>,
    #[serde(default)]
    currently_active: bool,
}

fn internal(error: impl std::fmt::Display) -> EduError {
    EduError::Internal(error.to_string())
}

fn speaks_for(origin: &ServerName, user: &OwnedUserId) -> Result<(), EduError> {
    if user.server_name() == origin { Ok(()) } else { Err(EduError::Foreign) }
}

/// The room, if it lets the server take part.
async fn room(federation: &Federation, origin: &ServerName, id: &RoomId) -> Result<Room, EduError> {
    let room = match federation.rooms.room(id).await {
        Ok(room) => room,
        Err(RoomError::Unknown) => return Err(EduError::Refused("the room is not known here".to_owned())),
        Err(RoomError::Storage(error)) => return Err(internal(error)),
    };
    if room.allows_server(origin).await.map_err(internal)? {
        Ok(room)
    } else {
        Err(EduError::Refused("the room's ACL denies the server".to_owned()))
    }
}

/// `m.typing`
pub(super) async fn typing(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    let Typing { room_id, user_id, types } = edu.content()?;
    speaks_for(origin, &user_id)?;
    match room(federation, origin, &room_id).await?.keep_typing(&user_id, types).await {
        Ok(()) => Ok(()),
        Err(error @ TypingError::NotInRoom) => Err(EduError::Refused(error.to_string())),
        Err(TypingError::Storage(error)) => Err(internal(error)),
    }
}

/// `m.receipt`: public ones only; others never leave a server. A room that can't be told holds up no other.
pub(super) async fn receipts(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    let rooms: Receipts = edu.content()?;
    let (mut left, mut outcome) = (MAX_USERS, Ok(()));
    for (room_id, mut types) in rooms {
        let users = types.remove("m.read").unwrap_or_default();
        let some: Vec<_> = users.into_iter().take(left).collect();
        left -= some.len();
        if !some.is_empty()
            && let Err(error) = receipts_in(federation, origin, &room_id, some).await
        {
            outcome = Err(error);
        }
    }
    outcome
}

async fn receipts_in(
    federation: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    users: Vec<(OwnedUserId, ReadUpTo)>,
) -> Result<(), EduError> {
    let room = room(federation, origin, room_id).await?;
    let mut receipts = Vec::new();
    for (user_id, ReadUpTo { data, event_ids }) in users {
        let thread = data.thread_id.as_deref().map_or(Some(Thread::Unthreaded), Thread::parse);
        let (Some(thread), Some(event_id)) = (thread, event_ids.into_iter().next()) else { continue };
        if event_id.len() <= MAX_EVENT_ID_BYTES
            && speaks_for(origin, &user_id).is_ok()
            && room.may_have_joined(&user_id).await.map_err(internal)?
        {
            receipts.push(RemoteReceipt { user_id, thread, event_id, ts: data.ts });
        }
    }
    match room.keep_receipts(&receipts).await {
        Ok(()) => Ok(()),
        Err(error @ (ReceiptError::Unavailable | ReceiptError::Storage(_))) => Err(internal(error)),
        Err(refused) => Err(EduError::Refused(refused.to_string())),
    }
}

/// `m.presence`: of users who share a room with users of this server.
pub(super) async fn presence(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    let presences = federation.users.presence();
    if !presences.is_enabled() {
        return Ok(());
    }
    let Presence { push } = edu.content()?;
    for told in push.into_iter().take(MAX_USERS) {
        let Some(state) = PresenceState::parse(&told.presence) else { continue };
        if speaks_for(origin, &told.user_id).is_err()
            || !federation.rooms.reads().meets_remote(&told.user_id).await.map_err(internal)?
        {
            continue;
        }
        presences.keep_remote(RemotePresence {
            user_id: told.user_id,
            state,
            status_msg: told.status_msg.filter(|message| message.len() <= MAX_STATUS_BYTES),
            last_active_ago: told.last_active_ago.map(Duration::from_millis),
            currently_active: told.currently_active && state == PresenceState::Online,
        });
    }
    Ok(())
}
