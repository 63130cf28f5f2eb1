//! `POST /rooms/{roomId}/leave` (client-server API, "Leaving rooms").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Reason, details, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated, Body},
};

pub(super) async fn leave(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Body(Reason { reason }): Body<Reason>,
) -> ApiResult<Json<Value>> {
    api.rooms.leave(&who.user_id, &room_id(&room)?, details(&who, reason)).await?;
    Ok(Json(json!({})))
}
