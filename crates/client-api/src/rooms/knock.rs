//! `POST /knock/{roomIdOrAlias}` (client-server API, "Knocking on rooms").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Reason, Via, details, way_to};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest, Query},
};

pub(super) async fn knock(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Query(via): Query<Via>,
    Body(Reason { reason }): Body<Reason>,
) -> ApiResult<Json<Value>> {
    let (room, servers) = way_to(&api, &room, via).await?;
    api.rooms.knock(&who.user_id, &room, &servers, details(&who, reason)).await?;
    Ok(Json(json!({ "room_id": room })))
}
