//! Questions about users and aliases (server-server API, "Querying for information").

use axum::{Json, extract::State};
use http::StatusCode;
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject};
use serde::Deserialize;

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::Signed,
};

#[derive(Debug, Deserialize)]
struct ProfileQuery {
    user_id: String,
    field: Option<String>,
}

/// `GET /_matrix/federation/v1/query/profile`.
pub(crate) async fn profile(
    State(federation): State<Federation>,
    signed: Signed,
) -> ApiResult<Json<CanonicalJsonObject>> {
    let ProfileQuery { user_id, field } = signed.query()?;
    let invalid = || ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", "Not a user id");
    let user = OwnedUserId::try_from(user_id).map_err(|_| invalid())?;
    if !federation.users.is_local(&user) {
        return Err(ApiError::not_found("The user is of another server"));
    }
    if !federation.options.profiles_shown {
        return Err(ApiError::forbidden("Profiles are not shown to other servers"));
    }
    tracing::debug!(origin = %signed.origin, %user, "another server asks for a profile");
    let profile = federation.users.profiles().get(&user).await.map_err(ApiError::internal)?;
    let profile = profile.ok_or_else(|| ApiError::not_found("No such user"))?;
    let Some(field) = field else { return Ok(Json(profile.0)) };
    // A field that isn't set is left out.
    let value = profile.field(&field).cloned();
    Ok(Json(value.map(|value| (field, value)).into_iter().collect()))
}
