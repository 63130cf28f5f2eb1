//! `POST /rooms/{roomId}/upgrade` (client-server API, "Room Upgrades").

use ::rooms::Upgrade;
use axum::{Json, extract::State};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{room_id, send::local_of};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    new_version: String,
    #[serde(default)]
    additional_creators: Vec<OwnedUserId>,
}

pub(super) async fn upgrade(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let room = api.rooms.room(&room_id(&room)?).await?;
    let local = local_of(&who, None);
    let Request { new_version: version, additional_creators } = request;
    let new = room.upgrade(Upgrade { by: who.user_id, version, additional_creators, local }).await?;
    Ok(Json(json!({ "replacement_room": new })))
}
