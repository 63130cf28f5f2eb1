//! `GET /state/{roomId}` and `GET /state_ids/{roomId}` (server-server API, "Retrieving events").

use axum::{
    extract::{Path, State},
    response::Response,
};
use rooms::read::ServedState;
use serde::Deserialize;

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, event_id, room_id},
    lists::{Lists, Shape},
};

#[derive(Debug, Deserialize)]
struct At {
    event_id: String,
}

/// `GET /_matrix/federation/v1/state/{roomId}`.
pub(crate) async fn whole(
    State(federation): State<Federation>,
    Path(room): Path<String>,
    signed: Signed,
) -> ApiResult<Response> {
    let ServedState { state, auth_chain } = before(&federation, &room, &signed).await?;
    Ok(Lists::new(Shape::Pdus).list("pdus", state).list("auth_chain", auth_chain).into_response())
}

/// `GET /_matrix/federation/v1/state_ids/{roomId}`.
pub(crate) async fn ids(
    State(federation): State<Federation>,
    Path(room): Path<String>,
    signed: Signed,
) -> ApiResult<Response> {
    let ServedState { state, auth_chain } = before(&federation, &room, &signed).await?;
    Ok(Lists::new(Shape::Ids).list("pdu_ids", state).list("auth_chain_ids", auth_chain).into_response())
}

async fn before(federation: &Federation, room: &str, signed: &Signed) -> ApiResult<ServedState> {
    let At { event_id: id } = signed.query()?;
    let room = federation.rooms.serve(&room_id(room)?, &signed.origin).await?;
    Ok(room.state_before(&event_id(&id)?).await?)
}
