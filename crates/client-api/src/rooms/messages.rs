//! `GET /rooms/{roomId}/messages` (client-server API, "Getting events for a room").

use ::rooms::read::{Messages, MessagesRequest, PageDirection};
use axum::{Json, extract::State};
use serde::Deserialize;

use super::{direction, page_token, reader, room_event_filter, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    /// Asked for by the specification. Whether the room may be read at all is judged before its absence.
    dir: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u64>,
    filter: Option<String>,
}

pub(super) async fn messages(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Messages>> {
    let request = MessagesRequest {
        direction: direction(parameters.dir.as_deref())?.unwrap_or(PageDirection::Forward),
        from: page_token(parameters.from.as_deref())?,
        to: page_token(parameters.to.as_deref())?,
        limit: if parameters.dir.is_some() { parameters.limit } else { Some(0) },
        filter: room_event_filter(parameters.filter.as_deref())?,
    };
    let page = api.rooms.messages(&reader(&who), &room_id(&room)?, request).await?;
    if parameters.dir.is_none() {
        return Err(ApiError::missing_param("`dir` is missing"));
    }
    Ok(Json(page))
}
