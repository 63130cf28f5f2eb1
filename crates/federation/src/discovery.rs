//! What a server says of itself without being asked who asks (server-server API, "Server discovery", "Server implementation").

use axum::{Json, extract::State};
use serde_json::{Value, json};

use crate::{
    Federation,
    error::{ApiError, ApiResult},
};

/// `GET /.well-known/matrix/server`.
pub(crate) async fn well_known(State(federation): State<Federation>) -> ApiResult<Json<Value>> {
    let address = federation.options.server_address.as_deref();
    let address = address.ok_or_else(|| ApiError::not_found("This server is reached under its own name"))?;
    Ok(Json(json!({ "m.server": address })))
}

/// `GET /_matrix/federation/v1/version`.
pub(crate) async fn version(State(federation): State<Federation>) -> Json<Value> {
    Json(json!({ "server": { "name": "Sundial", "version": federation.options.version } }))
}
