//! `GET /rooms/{roomId}/initialSync` (client-server API, "Room previews").

use ::rooms::{
    filter::RoomEventFilter,
    read::{MessagesRequest, PageDirection},
};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
    old_sync::visibility,
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    limit: Option<u64>,
}

pub(super) async fn initial_sync(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(Parameters { limit }): Query<Parameters>,
) -> ApiResult<Json<Value>> {
    let (room, reader) = (room_id(&room)?, reader(&who));
    let state = api.reads.state(&reader, &room).await?;
    let filter = RoomEventFilter::default();
    let request = MessagesRequest { direction: PageDirection::Backward, from: None, to: None, limit, filter };
    let mut page = api.reads.messages(&reader, &room, request).await?;
    page.chunk.reverse();
    let mut messages = json!({ "end": page.start, "chunk": page.chunk });
    if let Some(start) = page.end {
        messages["start"] = json!(start);
    }
    let state = serde_json::to_value(state).map_err(ApiError::internal)?;
    let account_data = api.reads.all_room_account_data(&reader, &room).await.map_err(ApiError::internal)?;
    let mut info = json!({
        "room_id": room,
        "messages": messages,
        "visibility": visibility(&api, &room).await?,
        "account_data": account_data,
    });
    let member = state
        .as_array()
        .into_iter()
        .flatten()
        .find(|event| event["type"] == "m.room.member" && event["state_key"] == who.user_id.as_str());
    if let Some(member) = member {
        info["membership"] = member["content"]["membership"].clone();
    }
    info["state"] = state;
    Ok(Json(info))
}
