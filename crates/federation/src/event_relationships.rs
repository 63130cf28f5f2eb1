//! `POST /event_relationships` (MSC2836, "Querying relationships over federation").

use axum::{extract::State, response::Response};
use federation_client::calls::relationships::RelationshipsQuery;
use rooms::read::RelationshipsRequest;

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::{Signed, room_id},
    lists::{Lists, Shape},
};

/// `POST /_matrix/federation/unstable/event_relationships`.
pub(crate) async fn event_relationships(State(federation): State<Federation>, signed: Signed) -> ApiResult<Response> {
    let query: RelationshipsQuery = signed.json()?;
    let request = RelationshipsRequest::of(&query).map_err(|error| ApiError::invalid_param(error.to_string()))?;
    if let Some(room) = &query.room_id {
        room_id(room)?;
    }
    let found = federation.rooms.serve_relationships(&request, &signed.origin).await?;
    let events = serde_json::value::to_raw_value(&found.events).map_err(ApiError::internal)?;
    let limited = if found.limited { "true" } else { "false" };
    let lists = Lists::new(Shape::Pdus).field("limited", limited).field("events", events.get());
    Ok(lists.list("auth_chain", found.auth_chain).into_response())
}
