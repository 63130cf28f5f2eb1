//! Users of other servers come into rooms of this one, and go out of them (server-server API, "Joining Rooms", "Knocking upon a room", "Inviting to
//! a room", "Leaving Rooms").

pub(crate) mod exchange_third_party_invite;
pub(crate) mod invite;
pub(crate) mod make;
pub(crate) mod send_join;
pub(crate) mod send_knock;
pub(crate) mod send_leave;

use rooms::{
    Room,
    resident::{Making, Submitted},
};

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, event_id, room_id},
};

/// The room of a path.
async fn room(federation: &Federation, id: &str) -> ApiResult<Room> {
    Ok(federation.rooms.room(&room_id(id)?).await?)
}

/// The member event in the body of a request.
fn submitted(signed: &Signed, making: Making, id: &str) -> ApiResult<Submitted> {
    let event_id = event_id(id)?;
    Ok(Submitted { origin: signed.origin.clone(), making, event_id, json: signed.body.to_vec() })
}
