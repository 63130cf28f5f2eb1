//! `POST /refresh` (client-server API, "Refreshing access tokens").

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::put_tokens;
use crate::{Api, error::ApiResult, extract::Body};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    refresh_token: String,
}

pub(super) async fn refresh(State(api): State<Api>, Body(request): Body<Request>) -> ApiResult<Json<Value>> {
    let tokens = api.users.refresh(&request.refresh_token).await?;
    let mut body = json!({});
    put_tokens(&mut body, &tokens);
    Ok(Json(body))
}
