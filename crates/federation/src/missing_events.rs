//! `POST /get_missing_events/{roomId}` (server-server API, "Backfilling and retrieving missing events").

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::read::MissingEventsRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, event_ids, room_id},
};

/// Events that are sent if the request asks for no number.
const DEFAULT_LIMIT: usize = 10;

#[derive(Debug, Deserialize)]
struct Request {
    earliest_events: Vec<String>,
    latest_events: Vec<String>,
    limit: Option<usize>,
    #[serde(default)]
    min_depth: u64,
}

/// `POST /_matrix/federation/v1/get_missing_events/{roomId}`.
pub(crate) async fn missing_events(
    State(federation): State<Federation>,
    Path(room): Path<String>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let Request { earliest_events, latest_events, limit, min_depth } = signed.json()?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(federation.options.get_missing_events_max_events);
    let (earliest_events, latest_events) = (event_ids(&earliest_events)?, event_ids(&latest_events)?);
    let request = MissingEventsRequest { earliest_events, latest_events, min_depth, limit };
    let room = federation.rooms.serve(&room_id(&room)?, &signed.origin).await?;
    Ok(Json(json!({ "events": room.missing_events(&request).await? })))
}
