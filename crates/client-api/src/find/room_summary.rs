//! `GET /room_summary/{roomIdOrAlias}` (client-server API, "Room previews"), and where clients looked for it before (MSC3266).

use ::rooms::find::SummaryFor;
use axum::{Json, extract::State};
use ruma::RoomAliasId;
use serde::Serialize;
use users::Requester;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
    rooms::{Via, reader, way_to},
};

/// The summary with the names that two of its fields had before they were accepted.
#[derive(Debug, Serialize)]
pub(super) struct Unstable {
    #[serde(flatten)]
    summary: SummaryFor,
    #[serde(rename = "im.nheko.summary.room_version", skip_serializing_if = "Option::is_none")]
    room_version: Option<&'static str>,
    #[serde(rename = "im.nheko.summary.version", skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(rename = "im.nheko.summary.encryption", skip_serializing_if = "Option::is_none")]
    encryption: Option<String>,
}

pub(super) async fn stable(
    State(api): State<Api>,
    who: Option<Authenticated>,
    Args(room): Args<String>,
    Query(via): Query<Via>,
) -> ApiResult<Json<SummaryFor>> {
    Ok(Json(summary(&api, who.map(|Authenticated(who)| who), &room, via).await?))
}

pub(super) async fn unstable(
    State(api): State<Api>,
    who: Option<Authenticated>,
    Args(room): Args<String>,
    Query(via): Query<Via>,
) -> ApiResult<Json<Unstable>> {
    let summary = summary(&api, who.map(|Authenticated(who)| who), &room, via).await?;
    let (version, encryption) = (summary.summary.room_version, summary.summary.encryption.clone());
    Ok(Json(Unstable { summary, room_version: version, version, encryption }))
}

/// A room that may not be shown is not told apart from one that isn't there.
async fn summary(api: &Api, who: Option<Requester>, room: &str, via: Via) -> ApiResult<SummaryFor> {
    // Strangers have no other server asked.
    let elsewhere = |alias: &RoomAliasId| alias.server_name() != api.users.server_name();
    if who.is_none() && <&RoomAliasId>::try_from(room).is_ok_and(elsewhere) {
        return Err(ApiError::not_found("Room not found"));
    }
    let (room, servers) = way_to(api, room, via).await?;
    let reader = who.as_ref().map(reader);
    let found = api.rooms.room_summary(reader.as_ref(), &room, &servers).await;
    found.map_err(|error| match error {
        ::rooms::ReadRoomError::NotFound => ApiError::not_found("Room not found"),
        error => error.into(),
    })
}
