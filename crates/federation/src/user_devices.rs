//! `GET /user/devices/{userId}`: the list of a user's devices (server-server API, "Device Management").
//!
//! Only of this server's own users: what it knows of others' is not told, so that nobody learns whom it knows.

use axum::{
    Json,
    extract::{Path, State},
};
use ruma::OwnedUserId;
use users::keys::DevicesOfUser;

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::Signed,
};

/// `GET /_matrix/federation/v1/user/devices/{userId}`.
pub(crate) async fn user_devices(
    State(federation): State<Federation>,
    Path(user): Path<String>,
    signed: Signed,
) -> ApiResult<Json<DevicesOfUser>> {
    let user = OwnedUserId::try_from(user).map_err(|_| ApiError::invalid_param("Not a user id"))?;
    tracing::debug!(origin = %signed.origin, %user, "another server asks for a list of devices");
    let devices = federation.users.keys().devices_of_user(&user).await.map_err(ApiError::internal)?;
    devices.map(Json).ok_or_else(|| ApiError::not_found("No such user"))
}
