//! `GET /mutual_rooms` (client-server API, "Mutual Rooms").

use ::rooms::find::MutualRooms;
use axum::{Json, extract::State};
use ruma::OwnedUserId;
use serde::Deserialize;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Query},
    rooms::reader,
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    user_id: String,
    from: Option<String>,
}

pub(super) async fn mutual_rooms(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<MutualRooms>> {
    let other = OwnedUserId::try_from(parameters.user_id);
    let other = other.map_err(|_| ApiError::invalid_param("Not a user id"))?;
    let from = parameters.from.as_deref().map(str::parse).transpose()?;
    Ok(Json(api.reads.mutual_rooms(&reader(&who), &other, from).await?))
}
