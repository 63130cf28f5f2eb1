//! `PUT /send_leave/{roomId}/{eventId}`: a leave, a refused invite, a withdrawn knock.

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::resident::Making;
use serde_json::{Value, json};

use super::{room, submitted};
use crate::{Federation, error::ApiResult, extract::Signed};

/// `PUT /_matrix/federation/v1/send_leave/{roomId}/{eventId}`: the same in a list after a status.
pub(crate) async fn v1(
    State(federation): State<Federation>,
    Path((room_id, event_id)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    leave(&federation, &room_id, &event_id, &signed).await?;
    Ok(Json(json!([200, {}])))
}

/// `PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}`.
pub(crate) async fn v2(
    State(federation): State<Federation>,
    Path((room_id, event_id)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    leave(&federation, &room_id, &event_id, &signed).await?;
    Ok(Json(json!({})))
}

async fn leave(federation: &Federation, room_id: &str, event_id: &str, signed: &Signed) -> ApiResult<()> {
    let leave = submitted(signed, Making::Leave, event_id)?;
    Ok(room(federation, room_id).await?.accept_leave(leave, &federation.remote()).await?)
}
