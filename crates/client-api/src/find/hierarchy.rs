//! `GET /rooms/{roomId}/hierarchy` (client-server API, "Spaces").

use ::rooms::find::{Hierarchy, HierarchyRequest};
use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
    rooms::{reader, room_id},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    #[serde(default)]
    suggested_only: bool,
    limit: Option<u64>,
    max_depth: Option<u64>,
    from: Option<String>,
}

pub(super) async fn hierarchy(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Hierarchy>> {
    if parameters.limit == Some(0) {
        return Err(ApiError::invalid_param("`limit` must be greater than 0"));
    }
    let request = HierarchyRequest {
        suggested_only: parameters.suggested_only,
        max_depth: parameters.max_depth,
        limit: parameters.limit,
        from: parameters.from.as_deref().map(str::parse).transpose()?,
    };
    Ok(Json(api.rooms.hierarchy(&reader(&who), &room_id(&room)?, request).await?))
}
