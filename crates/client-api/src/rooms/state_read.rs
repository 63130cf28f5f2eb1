//! `GET /rooms/{roomId}/state` and below it (client-server API, "Getting events for a room").

use ::rooms::render::ClientEvent;
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::Requester;

use super::{reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    format: Option<String>,
}

pub(super) async fn all(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
) -> ApiResult<Json<Vec<ClientEvent>>> {
    Ok(Json(api.reads.state(&reader(&who), &room_id(&room)?).await?))
}

pub(super) async fn one(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type, state_key)): Args<(String, String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Value>> {
    state_event(&api, &who, &room, &event_type, &state_key, parameters.format.as_deref()).await
}

pub(super) async fn one_with_empty_key(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type)): Args<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Value>> {
    state_event(&api, &who, &room, &event_type, "", parameters.format.as_deref()).await
}

async fn state_event(
    api: &Api,
    who: &Requester,
    room: &str,
    event_type: &str,
    state_key: &str,
    format: Option<&str>,
) -> ApiResult<Json<Value>> {
    let whole = match format {
        None | Some("content") => false,
        Some("event") => true,
        Some(_) => return Err(ApiError::invalid_param("`format` is `content` or `event`")),
    };
    let event = api.reads.state_event(&reader(who), &room_id(room)?, event_type, state_key).await?;
    let mut event = json!(event);
    Ok(Json(if whole { event } else { event["content"].take() }))
}
