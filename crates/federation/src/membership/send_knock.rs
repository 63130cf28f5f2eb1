//! `PUT /send_knock/{roomId}/{eventId}`: a knock, answered with events by which the room can be recognised.

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::resident::Making;
use serde_json::{Value, json, value::RawValue};

use super::{room, submitted};
use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::Signed,
};

/// `PUT /_matrix/federation/v1/send_knock/{roomId}/{eventId}`.
pub(crate) async fn send_knock(
    State(federation): State<Federation>,
    Path((room_id, event_id)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let knock = submitted(&signed, Making::Knock, &event_id)?;
    let events = room(&federation, &room_id).await?.accept_knock(knock, &federation.remote()).await?;
    let events: Result<Vec<Box<RawValue>>, _> =
        events.iter().map(|event| RawValue::from_string(event.json().to_owned())).collect();
    Ok(Json(json!({ "knock_room_state": events.map_err(ApiError::internal)? })))
}
