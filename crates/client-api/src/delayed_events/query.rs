//! Scheduling by query parameter: `?org.matrix.msc4140.delay=` on `/send` and `/state`.

use std::time::Duration;

use ::delayed_events::{Answered, Event, Receipt, Schedule, ScheduleError};
use axum::Json;
use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{TxnKey, tokens::Requester};

use super::{errors::Generation, millis, single};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    rooms::send::content_of,
};

/// The query parameters that make a request a delayed event.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct DelayQuery {
    /// The delay in milliseconds, as it was written.
    #[serde(rename = "org.matrix.msc4140.delay")]
    pub(crate) delay: Option<String>,
    /// Not served.
    #[serde(rename = "org.matrix.msc4140.parent_delay_id")]
    pub(crate) parent_delay_id: Option<String>,
    /// For how long the event is sticky once sent (MSC4354), in milliseconds.
    #[serde(rename = "org.matrix.msc4354.sticky_duration_ms")]
    pub(crate) sticky_duration_ms: Option<String>,
}

impl DelayQuery {
    /// Whether the request asks for a delay, sensibly or not: the event is then never sent at once.
    pub(crate) fn is_present(&self) -> bool {
        self.delay.is_some() || self.parent_delay_id.is_some()
    }

    /// The delay, which must be given.
    fn delay(&self) -> ApiResult<Duration> {
        if self.parent_delay_id.is_some() {
            return Err(ApiError::bad("M_UNRECOGNIZED", "`org.matrix.msc4140.parent_delay_id` is not supported"));
        }
        let delay = self.delay.as_deref().ok_or_else(|| ApiError::missing_param("The delay is missing"))?;
        millis(delay, "org.matrix.msc4140.delay")
    }

    /// How long the event is to be sticky, delayed or not.
    pub(crate) fn sticky_duration(&self) -> ApiResult<Option<Duration>> {
        let sticky = self.sticky_duration_ms.as_deref();
        sticky.map(|text| millis(text, "org.matrix.msc4354.sticky_duration_ms")).transpose()
    }

    /// The same in milliseconds, for an event that is sent at once.
    pub(crate) fn sticky_duration_ms(&self) -> ApiResult<Option<u64>> {
        Ok(self.sticky_duration()?.map(super::errors::millis))
    }
}

/// `PUT …/send/{eventType}/{txnId}` with a delay.
pub(crate) async fn schedule_message(
    api: &Api,
    who: &Requester,
    room: OwnedRoomId,
    event_type: String,
    query: &DelayQuery,
    body: &[u8],
    txn: TxnKey,
) -> ApiResult<Json<Value>> {
    if let Some(answer) = first_answer(api, &txn).await? {
        return Ok(answer);
    }
    let event = Event { event_type, sticky_duration: query.sticky_duration()?, ..Event::default() };
    let delay = query.delay()?;
    let request = single(who, room, Event { content: content_of(api, body)?, ..event }, delay);
    answer(api, Generation::Query, Schedule { txn: Some(txn), ..request }).await
}

/// `PUT …/state/{eventType}/{stateKey}` with a delay.
pub(crate) async fn schedule_state(
    api: &Api,
    who: &Requester,
    room: OwnedRoomId,
    event_type: String,
    state_key: String,
    query: &DelayQuery,
    body: &[u8],
) -> ApiResult<Json<Value>> {
    let delay = query.delay()?;
    let event = Event {
        event_type,
        state_key: Some(state_key),
        content: content_of(api, body)?,
        sticky_duration: query.sticky_duration()?,
        origin_server_ts: None,
    };
    answer(api, Generation::Query, single(who, room, event, delay)).await
}

/// What a transaction answered the first time, whichever way it was asked: a delayed event or one that was sent at once.
pub(crate) async fn first_answer(api: &Api, txn: &TxnKey) -> ApiResult<Option<Json<Value>>> {
    Ok(api.delayed.answered(txn).await?.map(|answered| match answered {
        Answered::Sent(event_id) => Json(json!({ "event_id": event_id })),
        Answered::Scheduled(receipt) => Json(delay_id(&receipt)),
    }))
}

fn delay_id(receipt: &Receipt) -> Value {
    json!({ "delay_id": receipt.events.first().map(|event| event.delay_id.as_str()) })
}

/// Schedules one event and answers with its id.
pub(super) async fn answer(api: &Api, generation: Generation, request: Schedule) -> ApiResult<Json<Value>> {
    match api.delayed.schedule(request).await {
        Ok(receipt) => Ok(Json(delay_id(&receipt))),
        Err(ScheduleError::AlreadySent(event_id)) => Ok(Json(json!({ "event_id": event_id }))),
        Err(error) => Err(generation.schedule(error)),
    }
}
