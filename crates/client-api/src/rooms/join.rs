//! `POST /join/{roomIdOrAlias}` and `POST /rooms/{roomId}/join` (client-server API, "Joining rooms").

use axum::{Json, extract::State};
use ruma::RoomId;
use serde_json::{Value, json};
use users::Requester;

use super::{Reason, details, resolve, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated, Body},
};

pub(super) async fn by_id_or_alias(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Body(request): Body<Reason>,
) -> ApiResult<Json<Value>> {
    let room = resolve(&api, &room).await?;
    join(&api, &who, &room, request).await
}

pub(super) async fn by_id(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Body(request): Body<Reason>,
) -> ApiResult<Json<Value>> {
    join(&api, &who, &room_id(&room)?, request).await
}

async fn join(api: &Api, who: &Requester, room: &RoomId, Reason { reason }: Reason) -> ApiResult<Json<Value>> {
    api.rooms.room(room).await?.join(&who.user_id, details(who, reason)).await?;
    Ok(Json(json!({ "room_id": room })))
}
