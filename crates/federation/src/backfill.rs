//! `GET /backfill/{roomId}` (server-server API, "Backfilling and retrieving missing events").

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, event_ids, room_id},
};

#[derive(Debug, Deserialize)]
struct From {
    #[serde(default)]
    v: Vec<String>,
    limit: usize,
}

/// `GET /_matrix/federation/v1/backfill/{roomId}`.
pub(crate) async fn backfill(
    State(federation): State<Federation>,
    Path(room): Path<String>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let From { v, limit } = signed.query()?;
    let from = event_ids(&v)?;
    let room = federation.rooms.serve(&room_id(&room)?, &signed.origin).await?;
    let pdus = room.backfill(&from, limit.min(federation.options.backfill_max_events)).await?;
    Ok(Json(federation.transaction(&pdus)))
}
