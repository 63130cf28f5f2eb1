//! `GET /rooms/{roomId}/event/{eventId}` (client-server API, "Getting events for a room").

use ::rooms::render::ClientEvent;
use axum::{Json, extract::State};

use super::{event_id, reader, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated},
};

pub(super) async fn event(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event)): Args<(String, String)>,
) -> ApiResult<Json<ClientEvent>> {
    Ok(Json(api.reads.event(&reader(&who), &room_id(&room)?, &event_id(&event)?).await?))
}
