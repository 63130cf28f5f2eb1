//! `GET /thread_subscriptions` (MSC4308): which threads the user has begun or ceased to follow, in pages.

use ::rooms::{SubscriptionChanges, SubscriptionChangesRequest};
use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Query},
};

/// Changes in a page if the client asks for no number, and the most.
const MAX_CHANGES: usize = 100;

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    dir: String,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn get(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<SubscriptionChanges>> {
    if parameters.dir != "b" {
        return Err(ApiError::invalid_param("`dir` is `b`"));
    }
    let limit = parameters.limit.unwrap_or(MAX_CHANGES).min(MAX_CHANGES);
    if limit == 0 {
        return Err(ApiError::invalid_param("`limit` is greater than 0"));
    }
    let from = parameters.from.as_deref().map(str::parse).transpose()?;
    let to = parameters.to.as_deref().map(str::parse).transpose()?;
    let request = SubscriptionChangesRequest { from, to, limit };
    Ok(Json(api.rooms.subscription_changes(who.user_nid, request).await.map_err(ApiError::internal)?))
}
