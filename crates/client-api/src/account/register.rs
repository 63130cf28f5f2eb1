//! `POST /register` and `GET /register/available` (client-server API, "Account registration").

use axum::{Json, extract::State};
use ruma::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{Authority, Limit, NewAccount, NewSession, Registered, uia::Operation};

use super::{Auth, interact, put_tokens};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Body, From, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Kind {
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    username: Option<String>,
    password: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    inhibit_login: bool,
    #[serde(default)]
    refresh_token: bool,
    auth: Option<Auth>,
}

pub(super) async fn register(
    State(api): State<Api>,
    From(address): From,
    Query(Kind { kind }): Query<Kind>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let authority = match kind.as_deref() {
        Some("guest") => Authority::Guest,
        None | Some("user") => {
            let flows = api.users.registration().flows().await?;
            if let Some(username) = &request.username {
                api.users.registration().check_name(username).await?;
            }
            let operation = Operation::new("register", &[]);
            Authority::Interactive(interact(&api, None, operation, flows, request.auth, address).await?)
        }
        Some(_) => return Err(ApiError::bad("M_UNKNOWN", "`kind` is `user` or `guest`")),
    };
    api.users.limits().check(Limit::Registration(address))?;
    let session = NewSession {
        device_id: request.device_id,
        initial_device_display_name: request.initial_device_display_name,
        refresh_token: request.refresh_token,
    };
    let account = NewAccount {
        authority,
        username: request.username,
        password: request.password,
        display_name: None,
        session: (!request.inhibit_login).then_some(session),
    };
    let registered = api.users.register(account).await?;
    Ok(Json(answer(&api, &registered)))
}

/// The body that tells of a new account.
pub(super) fn answer(api: &Api, registered: &Registered) -> Value {
    let mut body = json!({ "user_id": registered.user_id, "home_server": api.users.server_name() });
    if let Some(session) = &registered.session {
        body["device_id"] = json!(session.device_id);
        put_tokens(&mut body, &session.tokens);
    }
    body
}

#[derive(Debug, Deserialize)]
pub(super) struct Name {
    username: String,
}

pub(super) async fn available(
    State(api): State<Api>,
    From(address): From,
    Query(Name { username }): Query<Name>,
) -> ApiResult<Json<Value>> {
    api.users.limits().check(Limit::Registration(address))?;
    api.users.registration().check_name(&username).await?;
    Ok(Json(json!({ "available": true })))
}
