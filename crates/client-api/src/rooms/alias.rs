//! Aliases: `/directory/room/{roomAlias}` (client-server API, "Room aliases").

use axum::{Json, extract::State};
use ruma::{OwnedRoomAliasId, OwnedRoomId};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
};

fn alias_id(text: &str) -> ApiResult<OwnedRoomAliasId> {
    OwnedRoomAliasId::try_from(text).map_err(|_| ApiError::invalid_param("Not a room alias"))
}

pub(super) async fn look_up(State(api): State<Api>, Args(alias): Args<String>) -> ApiResult<Json<Value>> {
    let found = api.rooms.find_alias(&alias_id(&alias)?).await?;
    Ok(Json(json!({ "room_id": found.room_id, "servers": found.servers })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    room_id: OwnedRoomId,
}

pub(super) async fn create(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(alias): Args<String>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    api.rooms.create_alias(&who.user_id, &alias_id(&alias)?, &request.room_id).await?;
    Ok(Json(json!({})))
}

pub(super) async fn delete(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(alias): Args<String>,
) -> ApiResult<Json<Value>> {
    api.rooms.delete_alias(&who.user_id, who.is_admin, &alias_id(&alias)?).await?;
    Ok(Json(json!({})))
}
