//! `PUT /rooms/{roomId}/redact/{eventId}/{txnId}` (client-server API, "Redactions").

use axum::{Json, extract::State};
use ruma::{
    OwnedEventId,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
};
use serde_json::{Value, json};

use super::{
    NewEvent, Reason, room_id,
    send::{send_once, txn_key},
};
use crate::{
    Api,
    delayed_events::query::DelayQuery,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest, Query},
};

pub(super) async fn redact(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, event, txn_id)): Args<(String, String, String)>,
    Query(delay): Query<DelayQuery>,
    Body(Reason { reason }): Body<Reason>,
) -> ApiResult<Json<Value>> {
    if delay.is_present() {
        return Err(ApiError::invalid_param("A redaction cannot be delayed"));
    }
    let txn = txn_key(&who, format!("redact/{room}/{event}"), txn_id);
    let room = room_id(&room)?;
    let target = OwnedEventId::try_from(event).map_err(|_| ApiError::invalid_param("Not an event id"))?;
    let mut content = CanonicalJsonObject::new();
    if let Some(reason) = reason {
        content.insert("reason".to_owned(), CanonicalJsonValue::String(reason));
    }
    let event = || {
        let event_type = "m.room.redaction".to_owned();
        Ok(NewEvent { event_type, content, redacts: Some(target), sticky_duration_ms: None })
    };
    let event_id = send_once(&api, &who, &room, txn, event).await?;
    Ok(Json(json!({ "event_id": event_id })))
}
