//! `GET /register/m.login.registration_token/validity` (client-server API, "Token-authenticated registration").

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::Limit;

use crate::{
    Api,
    error::ApiResult,
    extract::{From, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Token {
    token: String,
}

pub(super) async fn validity(
    State(api): State<Api>,
    From(address): From,
    Query(Token { token }): Query<Token>,
) -> ApiResult<Json<Value>> {
    api.users.limits().check(Limit::Registration(address))?;
    Ok(Json(json!({ "valid": api.users.registration_tokens().is_valid(&token).await? })))
}
