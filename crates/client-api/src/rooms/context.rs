//! `GET /rooms/{roomId}/context/{eventId}` (client-server API, "Event context").

use ::rooms::{
    filter::RoomEventFilter,
    read::{Context, ContextRequest},
};
use axum::{Json, extract::State};
use serde::Deserialize;

use super::{event_id, reader, room_event_filter, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    limit: Option<u64>,
    filter: Option<String>,
}

pub(super) async fn context(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event)): Args<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Context>> {
    let filter: RoomEventFilter = room_event_filter(parameters.filter.as_deref())?;
    let request = ContextRequest { event_id: event_id(&event)?, limit: parameters.limit, filter };
    Ok(Json(api.rooms.message_context(&reader(&who), &room_id(&room)?, request).await?))
}
