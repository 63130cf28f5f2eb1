//! This server's aliases and published rooms, for other servers (server-server API, "Querying for information", "Public Room Directory").

use axum::{Json, extract::State};
use rooms::find::{DirectoryQuery, DirectoryResponse};
use ruma::OwnedRoomAliasId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::{Signed, parse},
};

#[derive(Debug, Deserialize)]
struct Alias {
    room_alias: String,
}

/// `GET /_matrix/federation/v1/query/directory`. Aliases of other servers are not looked up for others.
pub(crate) async fn alias(State(federation): State<Federation>, signed: Signed) -> ApiResult<Json<Value>> {
    let Alias { room_alias } = signed.query()?;
    let alias = OwnedRoomAliasId::try_from(room_alias).map_err(|_| ApiError::invalid_param("Not a room alias"))?;
    if alias.server_name() != federation.keys().server_name() {
        return Err(ApiError::not_found("The alias is of another server"));
    }
    let found = federation.rooms.find_alias(&alias).await?;
    Ok(Json(json!({ "room_id": found.room_id, "servers": found.servers })))
}

/// `GET /_matrix/federation/v1/publicRooms`.
pub(crate) async fn published(
    State(federation): State<Federation>,
    signed: Signed,
) -> ApiResult<Json<DirectoryResponse>> {
    page(&federation, signed.query()?).await
}

/// `POST /_matrix/federation/v1/publicRooms`.
pub(crate) async fn searched(
    State(federation): State<Federation>,
    signed: Signed,
) -> ApiResult<Json<DirectoryResponse>> {
    page(&federation, parse(&signed.body)?).await
}

async fn page(federation: &Federation, query: DirectoryQuery) -> ApiResult<Json<DirectoryResponse>> {
    let request = query.request().map_err(|error| ApiError::invalid_param(error.to_string()))?;
    Ok(Json(federation.rooms.reads().public_rooms(&request).await.map_err(ApiError::internal)?))
}
