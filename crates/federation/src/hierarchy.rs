//! `GET /hierarchy/{roomId}` (server-server API, "Spaces").

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::{ReadRoomError, find::ServedHierarchy};
use serde::Deserialize;

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::{Signed, room_id},
};

#[derive(Debug, Deserialize)]
struct Parameters {
    #[serde(default)]
    suggested_only: bool,
}

/// `GET /_matrix/federation/v1/hierarchy/{roomId}`.
pub(crate) async fn hierarchy(
    State(federation): State<Federation>,
    Path(room): Path<String>,
    signed: Signed,
) -> ApiResult<Json<ServedHierarchy>> {
    let Parameters { suggested_only } = signed.query()?;
    let found = federation.rooms.reads().hierarchy_for_server(&signed.origin, &room_id(&room)?, suggested_only).await;
    found.map(Json).map_err(|error| match error {
        ReadRoomError::Storage(error) => ApiError::internal(error),
        _ => ApiError::not_found("The room is not known here, or not for your server"),
    })
}
