//! `POST /rooms/{roomId}/invite` (client-server API, "Room membership").

use axum::{Json, extract::State};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{details, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    user_id: Option<OwnedUserId>,
    /// Of an invitation through an identity server.
    address: Option<String>,
    reason: Option<String>,
}

pub(super) async fn invite(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let Some(target) = request.user_id else {
        return Err(match request.address {
            Some(_) => ApiError::threepid_denied(),
            None => ApiError::missing_param("`user_id` is missing"),
        });
    };
    let room = api.rooms.room(&room_id(&room)?).await?;
    room.invite(&who.user_id, &target, details(&who, request.reason)).await?;
    Ok(Json(json!({})))
}
