//! `GET /make_join`, `/make_knock` and `/make_leave` `/{roomId}/{userId}`: a member event for the asking server to sign.

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::resident::Making;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::room;
use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::Signed,
};

/// The room version of a server that names none.
const OLDEST: &str = "1";

#[derive(Debug, Deserialize)]
struct Versions {
    #[serde(default)]
    ver: Vec<String>,
}

/// `GET /_matrix/federation/v1/make_join/{roomId}/{userId}`.
pub(crate) async fn join(
    State(federation): State<Federation>,
    Path((room_id, user)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    template(&federation, Making::Join, &room_id, user, &signed).await
}

/// `GET /_matrix/federation/v1/make_knock/{roomId}/{userId}`.
pub(crate) async fn knock(
    State(federation): State<Federation>,
    Path((room_id, user)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    template(&federation, Making::Knock, &room_id, user, &signed).await
}

/// `GET /_matrix/federation/v1/make_leave/{roomId}/{userId}`.
pub(crate) async fn leave(
    State(federation): State<Federation>,
    Path((room_id, user)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    template(&federation, Making::Leave, &room_id, user, &signed).await
}

async fn template(
    federation: &Federation,
    making: Making,
    room_id: &str,
    user: String,
    signed: &Signed,
) -> ApiResult<Json<Value>> {
    let Versions { mut ver } = signed.query()?;
    if ver.is_empty() {
        ver.push(OLDEST.to_owned());
    }
    let user = OwnedUserId::try_from(user).map_err(|_| ApiError::invalid_param("Not a user id"))?;
    let room = room(federation, room_id).await?;
    let event = room.template(&signed.origin, making, &user, &ver).await?;
    Ok(Json(json!({ "room_version": room.version().as_str(), "event": event })))
}
