//! `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}` (client-server API, "Receipts").

use ::rooms::{Marks, ReceiptType, Thread};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::Limit;

use super::{event_id, reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    /// Of any type: what is not a string has its own error.
    thread_id: Option<Value>,
}

/// The thread that a request is about.
fn thread(thread_id: Option<Value>) -> ApiResult<Thread> {
    let Some(thread_id) = thread_id else { return Ok(Thread::Unthreaded) };
    let thread = thread_id.as_str().and_then(Thread::parse);
    thread.ok_or_else(|| ApiError::invalid_param("`thread_id` is `main` or the id of an event"))
}

pub(super) async fn receipt(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, receipt_type, event)): Args<(String, String, String)>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let thread = thread(request.thread_id)?;
    let event = event_id(&event)?;
    let receipt =
        |receipt_type| Marks { receipts: vec![(receipt_type, thread.clone(), event.clone())], fully_read: None };
    let marks = match &*receipt_type {
        "m.read" => receipt(ReceiptType::Read),
        "m.read.private" | "org.matrix.msc2285.read.private" => receipt(ReceiptType::ReadPrivate),
        "m.fully_read" if thread != Thread::Unthreaded => {
            return Err(ApiError::invalid_param("`m.fully_read` is of no thread"));
        }
        "m.fully_read" => Marks { receipts: vec![], fully_read: Some(event) },
        _ => return Err(ApiError::invalid_param("No such type of receipt")),
    };
    api.users.limits().check(Limit::Updates(who.user_nid))?;
    api.rooms.room(&room_id(&room)?).await?.mark_read(&reader(&who), &marks).await?;
    api.users.presence().active(&who.user_id, who.device_id.as_deref());
    Ok(Json(json!({})))
}
