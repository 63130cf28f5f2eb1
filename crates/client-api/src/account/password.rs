//! `POST /account/password` (client-server API, "Password management").

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::{
    LogOut,
    uia::{Operation, Stage},
};

use super::{Auth, interact};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Body, From, NoGuest},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    new_password: Option<String>,
    #[serde(default = "yes")]
    logout_devices: bool,
    auth: Option<Auth>,
}

fn yes() -> bool {
    true
}

/// Only for who is logged in: without an e-mail address there is nothing else to know a user by. The session that asks goes on.
pub(super) async fn change(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    From(address): From,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let operation = Operation::new("change password", &[]);
    interact(&api, Some(&who), operation, vec![vec![Stage::Password]], request.auth, address).await?;
    let password = request.new_password.ok_or_else(|| ApiError::missing_param("`new_password` is missing"))?;
    let log_out = match &who.device_id {
        _ if !request.logout_devices => LogOut::Nobody,
        Some(device_id) => LogOut::Others(device_id),
        None => LogOut::Everybody,
    };
    api.users.set_password(who.user_nid, &password, log_out).await?;
    Ok(Json(json!({})))
}
