//! `POST /rooms/{roomId}/ban` (client-server API, "Room membership").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Target, details, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest},
};

pub(super) async fn ban(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(request): Body<Target>,
) -> ApiResult<Json<Value>> {
    let room = api.rooms.room(&room_id(&room)?).await?;
    room.ban(&who.user_id, &request.user_id, details(&who, request.reason)).await?;
    Ok(Json(json!({})))
}
