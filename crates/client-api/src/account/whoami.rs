//! `GET /account/whoami` (client-server API, "Current account information").

use axum::Json;
use serde_json::{Value, json};

use crate::extract::Authenticated;

pub(super) async fn whoami(Authenticated(who): Authenticated) -> Json<Value> {
    let mut body = json!({ "user_id": who.user_id, "is_guest": who.is_guest });
    if let Some(device_id) = &who.device_id {
        body["device_id"] = json!(device_id);
    }
    Json(body)
}
