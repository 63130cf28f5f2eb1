//! `GET /event/{eventId}` (server-server API, "Retrieving events").

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::Value;

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, event_id},
};

/// `GET /_matrix/federation/v1/event/{eventId}`: a transaction of the one event.
pub(crate) async fn event(
    State(federation): State<Federation>,
    Path(id): Path<String>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let pdu = federation.rooms.serve_event(&event_id(&id)?, &signed.origin).await?;
    Ok(Json(federation.transaction(&[pdu])))
}
