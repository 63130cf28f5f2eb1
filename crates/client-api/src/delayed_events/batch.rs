//! `PUT …/rooms/{roomId}/send/future/{txnId}` (MSC4140, an alternative of 2024): a whole group of futures in one request, and an event that
//! is sent at once.

use std::collections::BTreeMap;

use ::delayed_events::{Answered, Event, Group, NewDelayed, Receipt, Schedule, ScheduleError};
use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    errors::Generation,
    futures::tokens,
    msc4140, of,
    schedule::{json_content, json_millis, json_state_key},
};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, RawBody, parse_json},
    rooms::{room_id, send::txn_key},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::PUT, msc4140!("/rooms/{roomId}/send/future/{txnId}"), schedule);
}

#[derive(Debug, Deserialize)]
struct Body {
    timeout: Option<Box<RawValue>>,
    send_on_timeout: Option<BodyEvent>,
    #[serde(default)]
    send_on_action: BTreeMap<String, BodyEvent>,
    send_now: Option<BodyEvent>,
}

#[derive(Debug, Deserialize)]
struct BodyEvent {
    #[serde(rename = "type")]
    event_type: String,
    state_key: Option<Value>,
    content: Box<RawValue>,
}

impl BodyEvent {
    fn read(self, api: &Api) -> ApiResult<Event> {
        let content = json_content(api, &self.content, "content")?;
        Ok(Event {
            event_type: self.event_type,
            state_key: json_state_key(self.state_key)?,
            content,
            ..Event::default()
        })
    }
}

async fn schedule(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, txn_id)): Args<(String, String)>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    let txn = txn_key(&who, format!("send/future/{room}"), txn_id);
    if let Some(Answered::Scheduled(receipt)) = api.delayed.answered(&txn).await? {
        return Ok(Json(response(&receipt)));
    }
    let Body { timeout, send_on_timeout, send_on_action, send_now } = parse_json(&body, api.options.json_max_depth)?;
    let mut events = Vec::new();
    if let Some(event) = send_on_timeout {
        let timeout = timeout.ok_or_else(|| ApiError::missing_param("`timeout` is missing"))?;
        let delay = Some(json_millis(&timeout, "timeout")?);
        events.push(NewDelayed { event: event.read(&api)?, delay, name: None, tokens: true });
    }
    for (name, event) in send_on_action {
        events.push(NewDelayed { event: event.read(&api)?, delay: None, name: Some(name), tokens: true });
    }
    if events.is_empty() {
        return Err(ApiError::missing_param("`send_on_timeout` is missing"));
    }
    let now = send_now.map(|event| event.read(&api)).transpose()?;
    let request = Schedule { now, txn: Some(txn), ..of(&who, room_id(&room)?, events, Group::New) };
    match api.delayed.schedule(request).await {
        Ok(receipt) => Ok(Json(response(&receipt))),
        Err(ScheduleError::AlreadySent(event_id)) => Ok(Json(json!({ "event_id": event_id }))),
        Err(error) => Err(Generation::Futures.schedule(error)),
    }
}

fn response(receipt: &Receipt) -> Value {
    let mut response = Map::new();
    let mut actions = Map::new();
    for event in &receipt.events {
        let mut tokens = tokens(&event.tokens);
        match &event.name {
            None => drop(response.insert("send_on_timeout".to_owned(), Value::Object(tokens))),
            Some(name) => {
                tokens.retain(|kind, _| kind == "send_token");
                actions.insert(name.clone(), Value::Object(tokens));
            }
        }
    }
    if !actions.is_empty() {
        response.insert("send_on_action".to_owned(), Value::Object(actions));
    }
    if let Some(event_id) = &receipt.sent {
        response.insert("send_now".to_owned(), json!({ "event_id": event_id }));
    }
    response.extend(receipt.group_id.as_ref().map(|group| ("future_group_id".to_owned(), json!(group))));
    Value::Object(response)
}
