//! `PUT /rooms/{roomId}/state/{eventType}/{stateKey}` (client-server API, "Sending events to a room").

use ::rooms::Outgoing;
use axum::{Json, body::Bytes, extract::State};
use serde_json::{Value, json};
use users::tokens::Requester;

use super::{
    room_id,
    send::{content_of, local_of},
};
use crate::{
    Api,
    delayed_events::query::{self, DelayQuery},
    error::ApiResult,
    extract::{Args, Authenticated, Query, RawBody},
};

pub(super) async fn set(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type, state_key)): Args<(String, String, String)>,
    Query(delay): Query<DelayQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    set_state(&api, &who, &room, event_type, state_key, &delay, body).await
}

pub(super) async fn set_with_empty_key(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type)): Args<(String, String)>,
    Query(delay): Query<DelayQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    set_state(&api, &who, &room, event_type, String::new(), &delay, body).await
}

async fn set_state(
    api: &Api,
    who: &Requester,
    room: &str,
    event_type: String,
    state_key: String,
    delay: &DelayQuery,
    body: Bytes,
) -> ApiResult<Json<Value>> {
    let room = room_id(room)?;
    if delay.is_present() {
        return query::schedule_state(api, who, room, event_type, state_key, delay, &body).await;
    }
    let mut outgoing = Outgoing::state(who.user_id.clone(), event_type, state_key, content_of(api, &body)?);
    outgoing.local = local_of(who, None);
    outgoing.sticky_duration_ms = delay.sticky_duration_ms()?;
    let sent = api.rooms.room(&room).await?.send(outgoing).await?;
    Ok(Json(json!({ "event_id": sent.event_id })))
}
