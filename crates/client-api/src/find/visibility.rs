//! `/directory/list/room/{roomId}` (client-server API, "Published room directory").

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest},
    rooms::room_id,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Visibility {
    #[default]
    Public,
    Private,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    visibility: Visibility,
}

pub(super) async fn get(State(api): State<Api>, Args(room): Args<String>) -> ApiResult<Json<Value>> {
    let room = api.rooms.room(&room_id(&room)?).await?;
    let published = api.reads.is_published(room.nid()).await?;
    Ok(Json(json!({ "visibility": if published { Visibility::Public } else { Visibility::Private } })))
}

pub(super) async fn set(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let room = api.rooms.room(&room_id(&room)?).await?;
    room.publish(&who.user_id, request.visibility == Visibility::Public).await?;
    Ok(Json(json!({})))
}
