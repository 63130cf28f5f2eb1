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
    // Where registration is closed, no token is good: the error says so.
    api.users.registration().flows().await?;
    Ok(Json(json!({ "valid": api.users.registration_tokens().is_valid(&token).await? })))
}
