//! `PUT /sendToDevice/{eventType}/{txnId}` (client-server API, "Send-to-Device messaging").

use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use users::to_device::Messages;

use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated, Body},
    rooms::send::txn_key,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::PUT, "/_matrix/client/v3/sendToDevice/{type}/{txn}", send);
}

#[derive(Debug, Deserialize)]
struct Send {
    messages: Messages,
}

async fn send(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((event_type, txn_id)): Args<(String, String)>,
    Body(request): Body<Send>,
) -> ApiResult<Json<Value>> {
    let txn = txn_key(&who, "sendToDevice".to_owned(), txn_id);
    api.users.to_device().send(&who.user_id, &txn, &event_type, &request.messages).await?;
    Ok(Json(json!({})))
}
