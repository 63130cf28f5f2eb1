//! `GET` and `POST /_synapse/admin/v1/register`: registration by whoever knows the shared secret, as tools and test suites do it.

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::{NewSession, shared_secret::SharedSecretRequest};

use super::register::answer;
use crate::{Api, error::ApiResult, extract::Body};

pub(super) async fn nonce(State(api): State<Api>) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "nonce": api.users.shared_secret().nonce()? })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    nonce: String,
    username: String,
    displayname: Option<String>,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
    #[serde(default)]
    inhibit_login: bool,
}

pub(super) async fn register(State(api): State<Api>, Body(request): Body<Request>) -> ApiResult<Json<Value>> {
    let wish = SharedSecretRequest {
        nonce: request.nonce,
        username: request.username,
        display_name: request.displayname,
        password: request.password,
        admin: request.admin,
        user_type: request.user_type,
        mac: request.mac,
        session: (!request.inhibit_login).then(NewSession::default),
    };
    let registered = api.users.shared_secret().register(wish).await?;
    Ok(Json(answer(&api, &registered)))
}
