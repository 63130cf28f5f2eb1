//! `POST /join/{roomIdOrAlias}` and `POST /rooms/{roomId}/join` (client-server API, "Joining rooms").

use ::rooms::Details;
use axum::{Json, extract::State};
use ruma::{OwnedServerName, RoomId, canonical_json::CanonicalJsonObject};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use users::Requester;

use super::{Via, details, room_id, way_to};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated, Body, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    reason: Option<String>,
    /// An invitation through an identity server, of which this server knows none.
    #[serde(rename = "third_party_signed")]
    _third_party_signed: Option<IgnoredAny>,
    /// What else the client wants in its member event.
    #[serde(flatten)]
    content: CanonicalJsonObject,
}

pub(super) async fn by_id_or_alias(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(via): Query<Via>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let (room, servers) = way_to(&api, &room, via).await?;
    join(&api, &who, &room, &servers, request).await
}

pub(super) async fn by_id(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    join(&api, &who, &room_id(&room)?, &[], request).await
}

async fn join(
    api: &Api,
    who: &Requester,
    room: &RoomId,
    via: &[OwnedServerName],
    request: Request,
) -> ApiResult<Json<Value>> {
    let details = Details { content: request.content, ..details(who, request.reason) };
    api.rooms.join(&who.user_id, room, via, details).await?;
    Ok(Json(json!({ "room_id": room })))
}
