//! `GET /rooms/{roomId}/aliases` (client-server API, "Room aliases").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated},
    rooms::{reader, room_id},
};

pub(super) async fn aliases(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
) -> ApiResult<Json<Value>> {
    let aliases = api.reads.local_aliases(&reader(&who), &room_id(&room)?).await?;
    Ok(Json(json!({ "aliases": aliases })))
}
