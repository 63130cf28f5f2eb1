//! `GET /keys/changes`: whose keys to ask for anew, for a client that comes back after a while.

use ::rooms::{sync::DeviceLists, tokens::SyncToken};
use axum::{Json, extract::State};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Query},
    rooms::reader,
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/v3/keys/changes", changes);
}

#[derive(Debug, Deserialize)]
struct Parameters {
    from: String,
    to: String,
}

#[derive(Debug, Serialize)]
struct Changes {
    changed: Vec<String>,
    left: Vec<String>,
}

async fn changes(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Query(Parameters { from, to }): Query<Parameters>,
) -> ApiResult<Json<Changes>> {
    // What has changed since `to` is told as well: the client learns of it a moment later anyway.
    let (from, _): (SyncToken, SyncToken) = (from.parse()?, to.parse()?);
    let lists = api.reads.device_lists(&reader(&who), from).await.map_err(ApiError::internal)?;
    let DeviceLists { changed, left } = lists;
    Ok(Json(Changes { changed, left }))
}
