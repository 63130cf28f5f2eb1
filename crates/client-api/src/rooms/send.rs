//! `PUT /rooms/{roomId}/send/{eventType}/{txnId}` (client-server API, "Sending events to a room").

use ::rooms::{EventLocal, Outgoing, Rider, SendError};
use axum::{Json, extract::State};
use ruma::{OwnedEventId, RoomId, canonical_json::CanonicalJsonObject};
use serde_json::{Value, json};
use users::{tokens::Requester, transactions::TxnKey};

use super::room_id;
use crate::{
    Api,
    delayed_events::query::{self, DelayQuery},
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Query, RawBody},
};

/// What a client wants sent.
#[derive(Debug)]
pub(crate) struct NewEvent {
    pub(crate) event_type: String,
    pub(crate) content: CanonicalJsonObject,
    pub(crate) redacts: Option<OwnedEventId>,
    /// For how long it is sticky (MSC4354), in milliseconds.
    pub(crate) sticky_duration_ms: Option<u64>,
}

pub(super) async fn send(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event_type, txn_id)): Args<(String, String, String)>,
    Query(delay): Query<DelayQuery>,
    RawBody(body): RawBody,
) -> ApiResult<Json<Value>> {
    let txn = txn_key(&who, format!("send/{room}/{event_type}"), txn_id);
    let room = room_id(&room)?;
    if delay.is_present() {
        return query::schedule_message(&api, &who, room, event_type, &delay, &body, txn).await;
    }
    let event = || {
        let sticky_duration_ms = delay.sticky_duration_ms()?;
        Ok(NewEvent { event_type, content: content_of(&api, &body)?, redacts: None, sticky_duration_ms })
    };
    let event_id = send_once(&api, &who, &room, txn.clone(), event).await?;
    // The transaction may have scheduled a delayed event the first time.
    if !event_id.starts_with('$')
        && let Some(answer) = query::first_answer(&api, &txn).await?
    {
        return Ok(answer);
    }
    Ok(Json(json!({ "event_id": event_id })))
}

/// The key under which a device's transaction is remembered.
pub(crate) fn txn_key(who: &Requester, path: String, txn_id: String) -> TxnKey {
    TxnKey { user_nid: who.user_nid, device_id: who.device_id.clone(), path, txn_id }
}

/// Sends a message once, however often the transaction is repeated: the first answer is given again, before the body is even looked at.
pub(crate) async fn send_once(
    api: &Api,
    who: &Requester,
    room: &RoomId,
    txn: TxnKey,
    event: impl FnOnce() -> ApiResult<NewEvent>,
) -> ApiResult<String> {
    if let Some(event_id) = api.users.transactions().lookup(&txn).await? {
        return Ok(event_id);
    }
    let NewEvent { event_type, content, redacts, sticky_duration_ms } = event()?;
    let mut outgoing = Outgoing::message(who.user_id.clone(), event_type, content);
    outgoing.redacts = redacts;
    outgoing.sticky_duration_ms = sticky_duration_ms;
    outgoing.local = local_of(who, Some(&txn.txn_id));
    let (transactions, key) = (api.users.transactions().clone(), txn.clone());
    outgoing.riders.push(Rider::new(move |event_id| transactions.record(&key, event_id.as_str())));
    match api.rooms.room(room).await?.send(outgoing).await {
        Ok(sent) => {
            api.users.presence().active(&who.user_id, who.device_id.as_deref());
            Ok(sent.event_id.to_string())
        }
        // The same request came twice at once, and the other one was first.
        Err(SendError::RiderConflict) => {
            let first = api.users.transactions().lookup(&txn).await?;
            first.ok_or_else(|| ApiError::internal("a transaction conflicted with one that is not there"))
        }
        Err(error) => Err(error.into()),
    }
}

/// What only this server is to know of an event: the device and the transaction.
pub(crate) fn local_of(who: &Requester, txn_id: Option<&str>) -> EventLocal {
    EventLocal {
        device_id: who.device_id.as_ref().map(ToString::to_string),
        transaction_id: txn_id.map(ToOwned::to_owned),
        delay_id: None,
    }
}

/// A body that is an event's content: strict canonical JSON.
pub(crate) fn content_of(api: &Api, body: &[u8]) -> ApiResult<CanonicalJsonObject> {
    crate::extract::parse_json(if body.trim_ascii().is_empty() { b"{}" } else { body }, api.options.json_max_depth)
}
