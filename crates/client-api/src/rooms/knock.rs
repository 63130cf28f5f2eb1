//! `POST /knock/{roomIdOrAlias}` (client-server API, "Knocking on rooms").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Reason, details, resolve};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest},
};

pub(super) async fn knock(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(Reason { reason }): Body<Reason>,
) -> ApiResult<Json<Value>> {
    let room = resolve(&api, &room).await?;
    api.rooms.room(&room).await?.knock(&who.user_id, details(&who, reason)).await?;
    Ok(Json(json!({ "room_id": room })))
}
