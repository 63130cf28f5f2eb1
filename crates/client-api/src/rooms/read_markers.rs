//! `POST /rooms/{roomId}/read_markers` (client-server API, "Fully read markers").

use ::rooms::{Marks, ReceiptType, Thread};
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::Limit;

use super::{event_id, reader, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(rename = "m.fully_read")]
    fully_read: Option<String>,
    #[serde(rename = "m.read")]
    read: Option<String>,
    #[serde(rename = "m.read.private", alias = "org.matrix.msc2285.read.private")]
    read_private: Option<String>,
}

pub(super) async fn read_markers(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let mut marks = Marks::default();
    for (receipt_type, event) in [(ReceiptType::Read, &request.read), (ReceiptType::ReadPrivate, &request.read_private)]
    {
        if let Some(event) = event {
            marks.receipts.push((receipt_type, Thread::Unthreaded, event_id(event)?));
        }
    }
    marks.fully_read = request.fully_read.as_deref().map(event_id).transpose()?;
    api.users.limits().check(Limit::Updates(who.user_nid))?;
    api.rooms.room(&room_id(&room)?).await?.mark_read(&reader(&who), &marks).await?;
    api.users.presence().active(&who.user_id, who.device_id.as_deref());
    Ok(Json(json!({})))
}
