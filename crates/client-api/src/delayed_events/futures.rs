//! Futures (MSC4140, 2024-05 to 2024-07): events with a timer, an action or both, of which a group sends at most one.

use ::delayed_events::{
    Answered, DelayedEvent, Event, Group, ListQuery, NewDelayed, Receipt, Schedule, ScheduleError, TimerAction,
};
use axum::{Json, extract::State};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::{TxnKey, tokens::Requester};

use super::{errors::Generation, millis, msc4140, of};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, From, Query, RawBody},
    rooms::{
        room_id,
        send::{content_of, txn_key},
    },
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::PUT, msc4140!("/rooms/{roomId}/send_future/{eventType}/{txnId}"), message);
    routes.add(Method::PUT, msc4140!("/rooms/{roomId}/state_future/{eventType}/{stateKey}"), state);
    routes.add(Method::POST, msc4140!("/future/{token}"), act);
    routes.add(Method::GET, msc4140!("/future"), list);
}

/// Of these at least one must be given.
#[derive(Debug, Deserialize)]
struct FutureQuery {
    future_timeout: Option<String>,
    future_group_id: Option<String>,
}

async fn message(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type, txn_id)): Args<(String, String, String)>,
    Query(query): Query<FutureQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    let txn = txn_key(&who, format!("send_future/{room}/{event_type}"), txn_id);
    if let Some(Answered::Scheduled(receipt)) = api.delayed.answered(&txn).await? {
        return Ok(Json(response(&receipt)));
    }
    let event = Event { event_type, ..Event::default() };
    schedule(&api, &who, &room, event, query, &body, Some(txn)).await
}

async fn state(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type, state_key)): Args<(String, String, String)>,
    Query(query): Query<FutureQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    let event = Event { event_type, state_key: Some(state_key), ..Event::default() };
    schedule(&api, &who, &room, event, query, &body, None).await
}

async fn schedule(
    api: &Api,
    who: &Requester,
    room: &str,
    event: Event,
    FutureQuery { future_timeout, future_group_id }: FutureQuery,
    body: &[u8],
    txn: Option<TxnKey>,
) -> ApiResult<Json<Value>> {
    if future_timeout.is_none() && future_group_id.is_none() {
        return Err(ApiError::missing_param("One of `future_timeout` and `future_group_id` must be given"));
    }
    let delay = future_timeout.map(|text| millis(&text, "future_timeout")).transpose()?;
    let event = Event { content: content_of(api, body)?, ..event };
    let event = NewDelayed { event, delay, name: None, tokens: true };
    let group = future_group_id.map_or(Group::New, Group::Named);
    let request = Schedule { txn, ..of(who, room_id(room)?, vec![event], group) };
    match api.delayed.schedule(request).await {
        Ok(receipt) => Ok(Json(response(&receipt))),
        Err(ScheduleError::AlreadySent(event_id)) => Ok(Json(json!({ "event_id": event_id }))),
        Err(error) => Err(Generation::Futures.schedule(error)),
    }
}

/// The tokens of a future under their names.
pub(super) fn tokens(tokens: &[(TimerAction, String)]) -> Map<String, Value> {
    let name = |action| match action {
        TimerAction::Send => "send_token",
        TimerAction::Cancel => "cancel_token",
        TimerAction::Restart => "refresh_token",
    };
    tokens.iter().map(|(action, token)| (name(*action).to_owned(), json!(token))).collect()
}

fn with_group(mut response: Map<String, Value>, group: Option<&str>) -> Value {
    response.extend(group.map(|group| ("future_group_id".to_owned(), json!(group))));
    Value::Object(response)
}

fn response(receipt: &Receipt) -> Value {
    let tokens = receipt.events.first().map(|event| tokens(&event.tokens)).unwrap_or_default();
    with_group(tokens, receipt.group_id.as_deref())
}

/// `POST …/future/{token}`: the token decides what is done; no access token is asked for.
async fn act(State(api): State<Api>, From(client): From, Args(token): Args<String>) -> ApiResult<Json<Value>> {
    let done = api.delayed.act_by_token(client, &token).await;
    done.map_err(|error| Generation::Futures.act(error))?;
    Ok(Json(json!({})))
}

/// `GET …/future`: the requests that made what is still scheduled, with their answers.
async fn list(State(api): State<Api>, Authenticated(who): Authenticated) -> ApiResult<Json<Value>> {
    let mut query = ListQuery { limit: Some(ListQuery::MAX_LIMIT), ..ListQuery::default() };
    let mut all = Vec::new();
    loop {
        let page = api.delayed.list(&who.user_id, &query).await?;
        all.extend(page.events.iter().filter(|event| !event.tokens.is_empty()).map(show));
        query.from = page.next_batch;
        if query.from.is_none() {
            return Ok(Json(Value::Array(all)));
        }
    }
}

fn show(event: &DelayedEvent) -> Value {
    let part = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let (kind, last) = match (&event.state_key, &event.transaction_id) {
        (Some(state_key), _) => ("state_future", state_key.as_str()),
        (None, txn_id) => ("send_future", txn_id.as_deref().unwrap_or_default()),
    };
    let path = format!("/rooms/{}/{kind}/{}/{}", part(event.room_id.as_str()), part(&event.event_type), part(last));
    let timeout = event.delay.map(|delay| format!("future_timeout={}", delay.as_millis()));
    let group = event.group_id.as_ref().map(|group| format!("future_group_id={}", part(group)));
    let query: Vec<_> = timeout.into_iter().chain(group).collect();
    json!({
        "url": format!("{}{path}?{}", msc4140!(""), query.join("&")),
        "body": event.content,
        "response": with_group(tokens(&event.tokens), event.group_id.as_deref()),
    })
}
