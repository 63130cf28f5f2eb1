//! Scheduling by query parameter: `?org.matrix.msc4140.delay=` on `/send` and `/state`.

use axum::Json;
use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::Value;
use users::{Requester, TxnKey};

use crate::{
    Api,
    error::{ApiError, ApiResult},
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
}

/// Schedules a message.
pub(crate) async fn schedule_message(
    _api: &Api,
    _who: &Requester,
    _room: OwnedRoomId,
    _event_type: String,
    _query: &DelayQuery,
    _body: &[u8],
    _txn: TxnKey,
) -> ApiResult<Json<Value>> {
    Err(ApiError::forbidden("Delayed events are disabled"))
}

/// Schedules a state event.
pub(crate) async fn schedule_state(
    _api: &Api,
    _who: &Requester,
    _room: OwnedRoomId,
    _event_type: String,
    _state_key: String,
    _query: &DelayQuery,
    _body: &[u8],
) -> ApiResult<Json<Value>> {
    Err(ApiError::forbidden("Delayed events are disabled"))
}
