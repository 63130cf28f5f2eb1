//! What came before `/sync`, for old clients: `GET /events`, `/events/{eventId}` and `/initialSync` (client-server API, deprecated). The answers
//! are those of `/sync` in another shape.

use std::time::Duration;

use ::rooms::{
    filter::{Filter, RoomEventFilter},
    read::{MessagesRequest, PageDirection, Reader},
    render::ClientEvent,
    sync::{StateAfter, SyncRequest, SyncResponse},
    tokens::{PageToken, SyncToken},
};
use axum::{Json, extract::State};
use http::Method;
use ruma::{OwnedRoomId, RoomId};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, NoGuest, Query},
    rooms::{event_id, reader, room_id},
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/v3/events", events);
    routes.add(Method::GET, "/_matrix/client/v3/events/{event}", event);
    routes.add(Method::GET, "/_matrix/client/v3/initialSync", initial_sync);
}

async fn event(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(event): Args<String>,
) -> ApiResult<Json<ClientEvent>> {
    Ok(Json(api.reads.event_by_id(&reader(&who), &event_id(&event)?).await?))
}

#[derive(Debug, Deserialize)]
struct Stream {
    from: Option<String>,
    /// In milliseconds.
    #[serde(default)]
    timeout: u64,
    room_id: Option<String>,
}

async fn events(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Query(stream): Query<Stream>,
) -> ApiResult<Json<Value>> {
    let from = stream.from.as_deref().map(str::parse::<SyncToken>).transpose()?.unwrap_or_else(|| api.reads.now());
    let timeout = Duration::from_millis(stream.timeout.min(api.options.sync_timeout_max_ms));
    let reader = reader(&who);
    let only = stream.room_id.as_deref().map(room_id).transpose()?;
    if let Some(room) = only.as_deref()
        && !api.reads.joined_rooms(&reader).await?.iter().any(|joined| joined == room)
    {
        return peek(&api, &reader, room, from, timeout).await;
    }
    let filter = only.map_or_else(|| json!({}), |room| json!({ "room": { "rooms": [room] } }));
    let request = SyncRequest { since: Some(from), filter: parsed(&filter)?, timeout, ..SyncRequest::default() };
    let response = api.reads.sync(&reader, request).await.map_err(ApiError::internal)?;
    let end = response.next_batch;
    Ok(Json(json!({ "start": from, "end": end, "chunk": chunk(response)? })))
}

/// What is new in a room that everybody may read, for somebody who isn't in it. Nobody wakes them: they look again when their time is over.
async fn peek(api: &Api, reader: &Reader, room: &RoomId, from: SyncToken, timeout: Duration) -> ApiResult<Json<Value>> {
    for pause in [timeout, Duration::ZERO] {
        let end = api.reads.now();
        let filter = RoomEventFilter::default();
        let (direction, from_token) = (PageDirection::Forward, Some(PageToken::Stream(from)));
        let request = MessagesRequest { direction, from: from_token, to: None, limit: None, filter };
        let page = api.reads.messages(reader, room, request).await?;
        if !page.chunk.is_empty() || pause.is_zero() {
            return Ok(Json(json!({ "start": from, "end": end, "chunk": page.chunk })));
        }
        api.reads.pause(pause).await;
    }
    Err(ApiError::internal("a pause of no length ends the loop"))
}

fn parsed(filter: &Value) -> ApiResult<Filter> {
    Filter::parse(&filter.to_string()).map_err(ApiError::internal)
}

/// Events with the room that they are of.
fn of_room(events: &Value, room: &str) -> Vec<Value> {
    let events = events.as_array().into_iter().flatten().cloned();
    let named = events.map(|mut event| {
        event["room_id"] = json!(room);
        event
    });
    named.collect()
}

/// All that a sync tells, as one list.
fn chunk(response: SyncResponse) -> ApiResult<Vec<Value>> {
    let response = serde_json::to_value(response).map_err(ApiError::internal)?;
    let mut chunk = list(&response["presence"]["events"]);
    for (kind, parts) in [
        ("join", &["timeline", "ephemeral", "account_data"][..]),
        ("invite", &["invite_state"]),
        ("knock", &["knock_state"]),
        ("leave", &["timeline", "account_data"]),
    ] {
        for (room, part) in response["rooms"][kind].as_object().into_iter().flatten() {
            chunk.extend(parts.iter().flat_map(|name| of_room(&part[name]["events"], room)));
        }
    }
    Ok(chunk)
}

fn list(events: &Value) -> Vec<Value> {
    events.as_array().cloned().unwrap_or_default()
}

#[derive(Debug, Deserialize)]
struct Initial {
    limit: Option<u64>,
    #[serde(default)]
    archived: bool,
}

async fn initial_sync(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Query(parameters): Query<Initial>,
) -> ApiResult<Json<Value>> {
    let mut room = json!({ "include_leave": parameters.archived });
    if let Some(limit) = parameters.limit {
        room["timeline"] = json!({ "limit": limit });
    }
    let filter = parsed(&json!({ "room": room }))?;
    let request = SyncRequest { filter, state_after: StateAfter::Stable, ..SyncRequest::default() };
    let response = api.reads.sync(&reader(&who), request).await.map_err(ApiError::internal)?;
    let end = json!(response.next_batch);
    let response = serde_json::to_value(response).map_err(ApiError::internal)?;
    let mut rooms = Vec::new();
    for kind in ["join", "leave"] {
        for (room, part) in response["rooms"][kind].as_object().into_iter().flatten() {
            rooms.push(room_info(&api, room, part, &end, who.user_id.as_str()).await?);
        }
    }
    for (kind, state) in [("invite", "invite_state"), ("knock", "knock_state")] {
        for (room, part) in response["rooms"][kind].as_object().into_iter().flatten() {
            rooms.push(asked_info(room, kind, of_room(&part[state]["events"], room), who.user_id.as_str()));
        }
    }
    Ok(Json(json!({
        "end": end,
        "presence": list(&response["presence"]["events"]),
        "account_data": list(&response["account_data"]["events"]),
        "rooms": rooms,
    })))
}

/// A user's member event among others.
fn member<'a>(events: &'a [Value], user: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["type"] == "m.room.member" && event["state_key"] == user)
}

/// A room that the user is in or has left.
async fn room_info(api: &Api, room: &str, part: &Value, end: &Value, user: &str) -> ApiResult<Value> {
    let state = of_room(&part["state_after"]["events"], room);
    let id = OwnedRoomId::try_from(room).map_err(ApiError::internal)?;
    let visibility = visibility(api, &id).await?;
    let messages = json!({
        "start": part["timeline"]["prev_batch"], "end": end, "chunk": of_room(&part["timeline"]["events"], room),
    });
    Ok(json!({
        "room_id": room,
        "membership": member(&state, user).map(|event| event["content"]["membership"].clone()),
        "messages": messages,
        "visibility": visibility,
        "account_data": list(&part["account_data"]["events"]),
        "state": state,
    }))
}

/// A room that the user is invited to or has knocked at.
fn asked_info(room: &str, membership: &str, state: Vec<Value>, user: &str) -> Value {
    let mut info = Map::new();
    info.insert("room_id".to_owned(), json!(room));
    info.insert("membership".to_owned(), json!(membership));
    if let Some(event) = member(&state, user).filter(|_| membership == "invite") {
        info.insert("invite".to_owned(), event.clone());
    }
    info.insert("state".to_owned(), Value::Array(state));
    Value::Object(info)
}

/// Whether a room is in the directory, in the specification's words.
pub(crate) async fn visibility(api: &Api, room: &RoomId) -> ApiResult<&'static str> {
    let room = api.rooms.room(room).await?.nid();
    Ok(if api.reads.is_published(room).await? { "public" } else { "private" })
}
