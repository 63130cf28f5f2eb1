//! `OpenID` tokens (client-server and server-server API, "OpenID"): a user gets one, another service learns by it who the user is.

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, NoGuest, Query},
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/user/{user}/openid/request_token", request_token);
    // It asks for no signature, and services call it where they know only the client API.
    routes.add(Method::GET, "/_matrix/federation/v1/openid/userinfo", userinfo);
}

/// `POST /user/{userId}/openid/request_token`. The body is reserved and not looked at.
async fn request_token(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(user): Args<OwnedUserId>,
) -> ApiResult<Json<Value>> {
    if user != who.user_id {
        return Err(ApiError::forbidden("Tokens are issued for oneself only"));
    }
    let token = api.users.openid().issue(&who).await?;
    Ok(Json(json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": api.users.server_name(),
        "expires_in": users::openid::LIFETIME.as_secs(),
    })))
}

#[derive(Debug, Deserialize)]
struct Token {
    access_token: Option<String>,
}

/// `GET /_matrix/federation/v1/openid/userinfo`.
async fn userinfo(State(api): State<Api>, Query(Token { access_token }): Query<Token>) -> ApiResult<Json<Value>> {
    let token = access_token.ok_or_else(ApiError::missing_token)?;
    let user_id = api.users.openid().redeem(&token).await?;
    let user_id = user_id.ok_or_else(|| {
        ApiError::new(http::StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "Access token unknown or expired")
    })?;
    Ok(Json(json!({ "sub": user_id })))
}
