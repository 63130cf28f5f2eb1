//! `GET /joined_rooms` (client-server API, "Room membership").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::reader;
use crate::{Api, error::ApiResult, extract::Authenticated};

pub(super) async fn joined_rooms(State(api): State<Api>, Authenticated(who): Authenticated) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "joined_rooms": api.reads.joined_rooms(&reader(&who)).await? })))
}
