//! `GET /rooms/{roomId}/threads` (client-server API, "Querying threads in a room").

use ::rooms::read::{Threads, ThreadsRequest};
use axum::{Json, extract::State};
use serde::Deserialize;

use super::{page_token, reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    include: Option<String>,
    from: Option<String>,
    limit: Option<u64>,
}

pub(super) async fn threads(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Threads>> {
    let participated = match parameters.include.as_deref() {
        None | Some("all") => false,
        Some("participated") => true,
        Some(_) => return Err(ApiError::invalid_param("`include` is `all` or `participated`")),
    };
    if parameters.limit == Some(0) {
        return Err(ApiError::invalid_param("`limit` is greater than 0"));
    }
    let request =
        ThreadsRequest { participated, from: page_token(parameters.from.as_deref())?, limit: parameters.limit };
    Ok(Json(api.reads.threads(&reader(&who), &room_id(&room)?, request).await?))
}
