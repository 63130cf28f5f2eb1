//! `GET /timestamp_to_event/{roomId}` (server-server API, "Retrieving events").

use axum::{
    Json,
    extract::{Path, State},
};
use rooms::read::{EventAtTime, PageDirection};
use serde::Deserialize;

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, room_id},
};

#[derive(Clone, Copy, Debug, Deserialize)]
enum Towards {
    #[serde(rename = "b")]
    Backward,
    #[serde(rename = "f")]
    Forward,
}

#[derive(Debug, Deserialize)]
struct Time {
    ts: u64,
    dir: Towards,
}

/// `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`.
pub(crate) async fn timestamp_to_event(
    State(federation): State<Federation>,
    Path(room): Path<String>,
    signed: Signed,
) -> ApiResult<Json<EventAtTime>> {
    let Time { ts, dir } = signed.query()?;
    let direction = match dir {
        Towards::Backward => PageDirection::Backward,
        Towards::Forward => PageDirection::Forward,
    };
    let room = federation.rooms.serve(&room_id(&room)?, &signed.origin).await?;
    Ok(Json(room.event_at_time(ts, direction).await?))
}
