//! `POST /user/keys/query` and `POST /user/keys/claim`: the keys of this server's users (server-server API, "End-to-End Encryption").

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use users::{
    KeysError,
    keys::{Asker, Claims, Issued, Query, UserKeys},
};

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::Signed,
};

#[derive(Debug, Deserialize)]
struct QueryBody {
    device_keys: Query,
}

#[derive(Debug, Deserialize)]
struct ClaimBody {
    one_time_keys: Claims,
}

#[derive(Debug, Serialize)]
pub(crate) struct Claimed {
    one_time_keys: Issued,
}

/// `POST /_matrix/federation/v1/user/keys/query`. Users of other servers, and those that don't exist, are passed over.
pub(crate) async fn query(State(federation): State<Federation>, signed: Signed) -> ApiResult<Json<UserKeys>> {
    let QueryBody { device_keys } = signed.json()?;
    let keys = federation.users.keys();
    let (local, _) = keys.by_server(device_keys);
    Ok(Json(keys.query(Asker::Server, &local).await.map_err(refused)?))
}

/// `POST /_matrix/federation/v1/user/keys/claim`. Users of other servers, and those that don't exist, are passed over.
pub(crate) async fn claim(State(federation): State<Federation>, signed: Signed) -> ApiResult<Json<Claimed>> {
    let ClaimBody { one_time_keys } = signed.json()?;
    let keys = federation.users.keys();
    let (local, _) = keys.by_server(one_time_keys);
    tracing::debug!(origin = %signed.origin, users = local.len(), "another server claims one-time keys");
    Ok(Json(Claimed { one_time_keys: keys.claim(local).await.map_err(refused)? }))
}

fn refused(error: KeysError) -> ApiError {
    match error {
        KeysError::TooMuch(_) => ApiError::invalid_param(error.to_string()),
        error => ApiError::internal(error),
    }
}
