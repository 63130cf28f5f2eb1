//! `POST /logout` and `POST /logout/all` (client-server API, "Login").

use axum::{Json, extract::State};
use http::HeaderMap;
use serde_json::{Value, json};
use users::Requester;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::access_token,
};

/// Who logs out: a locked account may do that too.
async fn requester(api: &Api, headers: &HeaderMap, uri: &http::Uri) -> ApiResult<Requester> {
    let token = access_token(headers, uri.query())?.ok_or_else(ApiError::missing_token)?;
    Ok(api.users.authenticate_to_log_out(&token).await?)
}

pub(super) async fn logout(State(api): State<Api>, headers: HeaderMap, uri: http::Uri) -> ApiResult<Json<Value>> {
    let who = requester(&api, &headers, &uri).await?;
    if let Some(device_id) = &who.device_id {
        api.users.logout(who.user_nid, device_id).await?;
    }
    Ok(Json(json!({})))
}

pub(super) async fn logout_all(State(api): State<Api>, headers: HeaderMap, uri: http::Uri) -> ApiResult<Json<Value>> {
    let who = requester(&api, &headers, &uri).await?;
    api.users.logout_all(who.user_nid).await?;
    Ok(Json(json!({})))
}
