//! `PUT …/rooms/{roomId}/delayed_event/{eventType}/{txnId}` (MSC4140): the path made for it, stable and unstable.

use std::time::Duration;

use ::delayed_events::{Event, Schedule};
use axum::{Json, extract::State};
use http::Method;
use ruma::canonical_json::CanonicalJsonObject;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use users::tokens::Requester;

use super::{
    errors::Generation,
    msc4140,
    query::{self, DelayQuery},
    single,
};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query, RawBody, parse_json},
    rooms::{room_id, send::txn_key},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::PUT, "/_matrix/client/v3/rooms/{roomId}/delayed_event/{eventType}/{txnId}", stable);
    routes.add(Method::PUT, msc4140!("/rooms/{roomId}/delayed_event/{eventType}/{txnId}"), unstable);
}

type Path = Args<(String, String, String)>;

async fn stable(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    path: Path,
    Query(query): Query<DelayQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    schedule(&api, &who, path, &query, &body, Generation::Stable).await
}

async fn unstable(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    path: Path,
    Query(query): Query<DelayQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    schedule(&api, &who, path, &query, &body, Generation::Unstable).await
}

/// The body. Its values are looked at one by one, so that each can be told what is wrong with it.
#[derive(Debug, Deserialize)]
struct Body {
    delay_ms: Option<Box<RawValue>>,
    delay: Option<Box<RawValue>>,
    content: Option<Box<RawValue>>,
    state_key: Option<Value>,
}

/// A number of milliseconds in JSON: an integer, as JSON writes them.
pub(super) fn json_millis(value: &RawValue, name: &str) -> ApiResult<Duration> {
    super::millis(value.get(), name)
}

/// An event's content in JSON.
pub(super) fn json_content(api: &Api, value: &RawValue, name: &str) -> ApiResult<CanonicalJsonObject> {
    if !value.get().starts_with('{') {
        return Err(ApiError::invalid_param(format!("`{name}` must be an object")));
    }
    parse_json(value.get().as_bytes(), api.options.json_max_depth)
}

/// A state key in JSON.
pub(super) fn json_state_key(value: Option<Value>) -> ApiResult<Option<String>> {
    match value {
        None => Ok(None),
        Some(Value::String(state_key)) => Ok(Some(state_key)),
        Some(_) => Err(ApiError::invalid_param("`state_key` must be a string")),
    }
}

async fn schedule(
    api: &Api,
    who: &Requester,
    Args((room, event_type, txn_id)): Path,
    query: &DelayQuery,
    body: &[u8],
    generation: Generation,
) -> ApiResult<Json<Value>> {
    let txn = txn_key(who, format!("delayed_event/{room}/{event_type}"), txn_id);
    if let Some(answer) = query::first_answer(api, &txn).await? {
        return Ok(answer);
    }
    let room = room_id(&room)?;
    let Body { delay_ms, delay, content, state_key } = parse_json(body, api.options.json_max_depth)?;
    let delay = delay_ms.or(delay.filter(|_| generation == Generation::Unstable));
    let delay = json_millis(&delay.ok_or_else(|| ApiError::missing_param("`delay_ms` is missing"))?, "delay_ms")?;
    let content = content.ok_or_else(|| ApiError::missing_param("`content` is missing"))?;
    let event = Event {
        event_type,
        state_key: json_state_key(state_key)?,
        content: json_content(api, &content, "content")?,
        sticky_duration: query.sticky_duration()?,
        origin_server_ts: None,
    };
    query::answer(api, generation, Schedule { txn: Some(txn), ..single(who, room, event, delay) }).await
}
