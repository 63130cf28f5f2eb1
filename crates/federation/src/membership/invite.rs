//! `PUT /invite/{roomId}/{eventId}`: a user of this server is invited. The answer is the event with this server's signature.

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::IncomingInvite;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::{Signed, event_id, parse, room_id},
};

/// The room version of an invite by version 1 of the endpoint, which names none.
const OLDEST: &str = "1";

#[derive(Debug, Deserialize)]
struct Body {
    room_version: String,
    event: Box<RawValue>,
    #[serde(default)]
    invite_room_state: Vec<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
struct OldBody {
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Debug, Default, Deserialize)]
struct Unsigned {
    #[serde(default)]
    invite_room_state: Vec<Box<RawValue>>,
}

/// `PUT /_matrix/federation/v1/invite/{roomId}/{eventId}`: the event alone, and the answer in a list after a status.
pub(crate) async fn v1(
    State(federation): State<Federation>,
    Path((room, event)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let OldBody { unsigned } = parse(&signed.body)?;
    let invite = IncomingInvite {
        origin: signed.origin,
        room_id: room_id(&room)?,
        event_id: event_id(&event)?,
        room_version: OLDEST.to_owned(),
        event: signed.body.to_vec(),
        invite_room_state: unsigned.invite_room_state,
    };
    Ok(Json(json!([200, take(&federation, invite).await?])))
}

/// `PUT /_matrix/federation/v2/invite/{roomId}/{eventId}`.
pub(crate) async fn v2(
    State(federation): State<Federation>,
    Path((room, event)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let Body { room_version, event: json, invite_room_state } = parse(&signed.body)?;
    let invite = IncomingInvite {
        origin: signed.origin,
        room_id: room_id(&room)?,
        event_id: event_id(&event)?,
        room_version,
        event: json.get().as_bytes().to_vec(),
        invite_room_state,
    };
    Ok(Json(take(&federation, invite).await?))
}

async fn take(federation: &Federation, invite: IncomingInvite) -> ApiResult<Value> {
    let event = federation.rooms.receive_invite(invite).await?;
    let event = RawValue::from_string(event.json().to_owned()).map_err(ApiError::internal)?;
    Ok(json!({ "event": event }))
}
