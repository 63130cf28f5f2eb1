//! `…/rooms/{roomId}/thread/{eventId}/subscription` (MSC4306): whether the user follows a thread.

use axum::{Json, extract::State};
use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{event_id, reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Body},
};

#[derive(Debug, Deserialize)]
pub(super) struct Subscription {
    /// The event that made the client subscribe by itself.
    automatic: Option<String>,
}

pub(super) async fn get(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, root)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    let automatic = api.rooms.thread_subscription(&reader(&who), &room_id(&room)?, &event_id(&root)?).await?;
    Ok(Json(json!({ "automatic": automatic })))
}

pub(super) async fn put(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, root)): Args<(String, String)>,
    Body(subscription): Body<Subscription>,
) -> ApiResult<Json<Value>> {
    let cause = subscription.automatic.map(OwnedEventId::try_from).transpose();
    let cause = cause.map_err(|_| ApiError::invalid_param("`automatic` is not an event id"))?;
    let (room, root) = (room_id(&room)?, event_id(&root)?);
    api.rooms.subscribe_to_thread(&reader(&who), &room, &root, cause.as_deref()).await?;
    Ok(Json(json!({})))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, root)): Args<(String, String)>,
) -> ApiResult<Json<Value>> {
    api.rooms.unsubscribe_from_thread(&reader(&who), &room_id(&room)?, &event_id(&root)?).await?;
    Ok(Json(json!({})))
}
