//! `POST /event_relationships` (MSC2836): a walk over events that relate to each other.

use ::rooms::read::{BadWalk, Relationships, RelationshipsRequest};
use axum::{Json, extract::State};
use federation_client::calls::relationships::RelationshipsQuery;

use super::{reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Body},
};

pub(super) async fn event_relationships(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Body(query): Body<RelationshipsQuery>,
) -> ApiResult<Json<Relationships>> {
    RelationshipsRequest::of(&query).map_err(|error| match error {
        BadWalk::Event => ApiError::not_found("No such event"),
        BadWalk::Direction => ApiError::invalid_param(error.to_string()),
    })?;
    let room = query.room_id.as_deref().map(room_id).transpose()?;
    Ok(Json(api.rooms.relationships(&reader(&who), &query, room.as_deref()).await?))
}
