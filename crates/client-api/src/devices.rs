//! A user's devices (client-server API, "Device management").

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedDeviceId;
use serde::Deserialize;
use serde_json::{Value, json};
use users::{
    Device, Requester,
    uia::{Operation, Stage},
};

use crate::{
    Api,
    account::{Auth, interact},
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Body, From, NoGuest},
    routes::Routes,
};

const DEVICES: &str = "/_matrix/client/v3/devices";

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, DEVICES, list);
    routes.add(Method::GET, &format!("{DEVICES}/{{device}}"), get);
    routes.add(Method::PUT, &format!("{DEVICES}/{{device}}"), rename);
    routes.add(Method::DELETE, &format!("{DEVICES}/{{device}}"), delete_one);
    routes.add(Method::POST, "/_matrix/client/v3/delete_devices", delete_many);
}

fn body(device: &Device) -> Value {
    let mut body = json!({ "device_id": device.device_id });
    if let Some(name) = &device.display_name {
        body["display_name"] = json!(name);
    }
    if let Some(sighting) = &device.last_seen {
        body["last_seen_ts"] = json!(sighting.seen);
        if let Some(address) = &sighting.address {
            body["last_seen_ip"] = json!(address);
        }
    }
    body
}

async fn list(State(api): State<Api>, Authenticated(who): Authenticated) -> ApiResult<Json<Value>> {
    let devices = api.users.devices().list(who.user_nid).await?;
    Ok(Json(json!({ "devices": devices.iter().map(body).collect::<Vec<_>>() })))
}

async fn get(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(device): Args<OwnedDeviceId>,
) -> ApiResult<Json<Value>> {
    let device = api.users.devices().get(who.user_nid, &device).await?;
    device.map(|device| Json(body(&device))).ok_or_else(|| ApiError::not_found("No such device"))
}

#[derive(Debug, Deserialize)]
struct Rename {
    display_name: Option<String>,
}

async fn rename(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(device): Args<OwnedDeviceId>,
    Body(request): Body<Rename>,
) -> ApiResult<Json<Value>> {
    api.users.devices().rename(who.user_nid, &device, request.display_name.as_deref()).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct DeleteOne {
    auth: Option<Auth>,
}

async fn delete_one(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    address: From,
    Args(device): Args<OwnedDeviceId>,
    Body(request): Body<DeleteOne>,
) -> ApiResult<Json<Value>> {
    delete(&api, &who, address, vec![device], request.auth).await
}

#[derive(Debug, Deserialize)]
struct DeleteMany {
    devices: Vec<OwnedDeviceId>,
    auth: Option<Auth>,
}

async fn delete_many(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    address: From,
    Body(request): Body<DeleteMany>,
) -> ApiResult<Json<Value>> {
    delete(&api, &who, address, request.devices, request.auth).await
}

/// Deletes devices once the user has shown the password; what does not exist is deleted already.
async fn delete(
    api: &Api,
    who: &Requester,
    From(address): From,
    mut devices: Vec<OwnedDeviceId>,
    auth: Option<Auth>,
) -> ApiResult<Json<Value>> {
    devices.sort();
    devices.dedup();
    let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    let operation = Operation::new("delete devices", &names);
    interact(api, Some(who), operation, vec![vec![Stage::Password]], auth, address).await?;
    api.users.devices().delete(who.user_nid, &devices).await?;
    Ok(Json(json!({})))
}
