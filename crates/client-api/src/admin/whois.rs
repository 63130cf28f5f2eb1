//! `GET /admin/whois/{userId}` (client-server API, "Server administration"): for the user and for administrators.

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};
use users::Sighting;

use super::user_id;
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, NoGuest},
};

pub(super) async fn whois(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(user): Args<String>,
) -> ApiResult<Json<Value>> {
    let user = user_id(&user)?;
    if user != who.user_id && !who.is_admin {
        return Err(ApiError::forbidden("Only an administrator may look up other users"));
    }
    if !api.users.is_local(&user) {
        return Err(ApiError::invalid_param("Not a user of this server"));
    }
    let nid = api.users.nid(&user).await?.ok_or_else(|| ApiError::not_found("No such user"))?;
    let devices = api.users.devices().list(nid).await?;
    let devices: Map<String, Value> = devices
        .into_iter()
        .map(|device| {
            let connections: Vec<_> = device.last_seen.iter().map(connection).collect();
            (device.device_id.to_string(), json!({ "sessions": [{ "connections": connections }] }))
        })
        .collect();
    Ok(Json(json!({ "user_id": user, "devices": devices })))
}

fn connection(sighting: &Sighting) -> Value {
    let mut connection = json!({ "last_seen": sighting.seen });
    if let Some(address) = &sighting.address {
        connection["ip"] = json!(address);
    }
    if let Some(user_agent) = &sighting.user_agent {
        connection["user_agent"] = json!(user_agent);
    }
    connection
}
