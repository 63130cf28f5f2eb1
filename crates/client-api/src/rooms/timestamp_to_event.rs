//! `GET /rooms/{roomId}/timestamp_to_event` (client-server API, "Jump to date").

use ::rooms::read::EventAtTime;
use axum::{Json, extract::State};
use serde::Deserialize;

use super::{direction, reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    /// Milliseconds since the Unix epoch.
    ts: u64,
    dir: String,
}

pub(super) async fn timestamp_to_event(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<EventAtTime>> {
    let direction = direction(Some(&parameters.dir))?.ok_or_else(|| ApiError::missing_param("`dir` is missing"))?;
    Ok(Json(api.rooms.event_at_time(&reader(&who), &room_id(&room)?, parameters.ts, direction).await?))
}
