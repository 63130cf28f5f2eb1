//! `GET /event_auth/{roomId}/{eventId}` (server-server API, "Retrieve event authorization information").

use axum::{
    extract::{Path, State},
    response::Response,
};

use crate::{
    Federation,
    error::ApiResult,
    extract::{Signed, event_id, room_id},
    lists::{Lists, Shape},
};

/// `GET /_matrix/federation/v1/event_auth/{roomId}/{eventId}`.
pub(crate) async fn event_auth(
    State(federation): State<Federation>,
    Path((room, id)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Response> {
    let room = federation.rooms.serve(&room_id(&room)?, &signed.origin).await?;
    let chain = room.event_auth(&event_id(&id)?).await?;
    Ok(Lists::new(Shape::Pdus).list("auth_chain", chain).into_response())
}
