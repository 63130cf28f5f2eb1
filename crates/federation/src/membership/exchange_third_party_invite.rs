//! `PUT /exchange_third_party_invite/{roomId}`: an invite by address becomes one of a user.

use axum::{
    Json,
    extract::{Path, State},
};
use ruma::canonical_json::CanonicalJsonObject;
use serde_json::{Value, json};

use super::room;
use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, parse},
};

/// `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`.
pub(crate) async fn exchange(
    State(federation): State<Federation>,
    Path(room_id): Path<String>,
    signed: Signed,
) -> ApiResult<Json<Value>> {
    let event = parse::<CanonicalJsonObject>(&signed.body)?;
    room(&federation, &room_id).await?.exchange_third_party_invite(&signed.origin, &event).await?;
    Ok(Json(json!({})))
}
