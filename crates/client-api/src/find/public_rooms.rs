//! `GET` and `POST /publicRooms` (client-server API, "Published room directory").

use ::rooms::find::DirectoryQuery;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use ruma::OwnedServerName;
use serde::Deserialize;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Body, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    limit: Option<u64>,
    since: Option<String>,
    server: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Server {
    server: Option<String>,
}

pub(super) async fn all(
    State(api): State<Api>,
    who: Option<Authenticated>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Response> {
    let Parameters { limit, since, server } = parameters;
    // Strangers may read this server's directory, but not have it ask others.
    if who.is_none() && elsewhere(&api, server.as_deref())?.is_some() {
        return Err(ApiError::missing_token());
    }
    answer(&api, server.as_deref(), DirectoryQuery { limit, since, ..DirectoryQuery::default() }).await
}

pub(super) async fn some(
    State(api): State<Api>,
    Authenticated(_): Authenticated,
    Query(Server { server }): Query<Server>,
    Body(query): Body<DirectoryQuery>,
) -> ApiResult<Response> {
    answer(&api, server.as_deref(), query).await
}

/// The other server whose directory is asked for, if it is another's.
fn elsewhere(api: &Api, server: Option<&str>) -> ApiResult<Option<OwnedServerName>> {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return Ok(None) };
    let server = OwnedServerName::try_from(server).map_err(|_| ApiError::invalid_param("Not a server name"))?;
    Ok(Some(server).filter(|server| server != api.users.server_name()))
}

async fn answer(api: &Api, server: Option<&str>, query: DirectoryQuery) -> ApiResult<Response> {
    if let Some(server) = elsewhere(api, server)? {
        return Ok(Json(api.rooms.remote_directory(&server, &query).await?).into_response());
    }
    Ok(Json(api.reads.public_rooms(&query.request()?).await?).into_response())
}
