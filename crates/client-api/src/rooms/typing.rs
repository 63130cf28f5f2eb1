//! `PUT /rooms/{roomId}/typing/{userId}` (client-server API, "Typing Notifications").

use std::time::Duration;

use ::rooms::typing::DEFAULT_TYPING;
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::Limit;

use super::room_id;
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
    profile::user_id,
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    typing: bool,
    /// In milliseconds.
    timeout: Option<u64>,
}

pub(super) async fn typing(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, user)): Args<(String, String)>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    if user_id(&user)? != who.user_id {
        return Err(ApiError::forbidden("Only they can say that they are typing"));
    }
    api.users.limits().check(Limit::Updates(who.user_nid))?;
    let span = request.typing.then(|| request.timeout.map_or(DEFAULT_TYPING, Duration::from_millis));
    api.rooms.room(&room_id(&room)?).await?.set_typing(&who.user_id, span).await?;
    api.users.presence().active(&who.user_id, who.device_id.as_deref());
    Ok(Json(json!({})))
}
