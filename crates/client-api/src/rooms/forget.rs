//! `POST /rooms/{roomId}/forget` (client-server API, "Leaving rooms").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::room_id;
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, NoGuest},
};

pub(super) async fn forget(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
) -> ApiResult<Json<Value>> {
    api.rooms.forget(&who.user_id, &room_id(&room)?).await?;
    Ok(Json(json!({})))
}
