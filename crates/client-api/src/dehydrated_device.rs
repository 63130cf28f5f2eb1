//! Dehydrated devices (MSC3814).

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use primitives::StreamPosition;
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::{dehydrated::NewDehydrated, keys::KeyUpload};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, KeysBody, NoGuest},
    routes::Routes,
};

const DEVICE: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::PUT, DEVICE, put).add(Method::GET, DEVICE, get).add(Method::DELETE, DEVICE, delete);
    routes.add(Method::POST, &format!("{DEVICE}/{{device}}/events"), events);
}

#[derive(Debug, Deserialize)]
struct Put {
    device_id: OwnedDeviceId,
    device_data: Map<String, Value>,
    initial_device_display_name: Option<String>,
    device_keys: CanonicalJsonObject,
    one_time_keys: Option<BTreeMap<String, CanonicalJsonValue>>,
    fallback_keys: Option<BTreeMap<String, CanonicalJsonValue>>,
}

async fn put(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    KeysBody(request): KeysBody<Put>,
) -> ApiResult<Json<Value>> {
    let device_id = request.device_id.clone();
    let new = NewDehydrated {
        device_id: request.device_id,
        device_data: request.device_data,
        display_name: request.initial_device_display_name,
        keys: KeyUpload {
            device_keys: Some(request.device_keys),
            one_time_keys: request.one_time_keys.unwrap_or_default(),
            fallback_keys: request.fallback_keys.unwrap_or_default(),
        },
    };
    api.users.dehydrated().put(&who, new).await?;
    Ok(Json(json!({ "device_id": device_id })))
}

async fn get(State(api): State<Api>, NoGuest(who): NoGuest) -> ApiResult<Json<Value>> {
    let kept = api.users.dehydrated().get(who.user_nid).await?;
    let kept = kept.ok_or_else(|| ApiError::not_found("No dehydrated device"))?;
    Ok(Json(json!({ "device_id": kept.device_id, "device_data": kept.device_data })))
}

async fn delete(State(api): State<Api>, NoGuest(who): NoGuest) -> ApiResult<Json<Value>> {
    let deleted = api.users.dehydrated().delete(who.user_nid).await?;
    let device_id = deleted.ok_or_else(|| ApiError::not_found("No dehydrated device"))?;
    Ok(Json(json!({ "device_id": device_id })))
}

#[derive(Debug, Deserialize)]
struct Events {
    next_batch: Option<String>,
}

async fn events(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(device): Args<OwnedDeviceId>,
    Body(request): Body<Events>,
) -> ApiResult<Json<Value>> {
    let after = request.next_batch.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| ApiError::invalid_param("next_batch is none that this server has given"))?;
    let after = after.map(StreamPosition).unwrap_or_default();
    let (events, next) = api.users.dehydrated().events(who.user_nid, &device, after).await?;
    Ok(Json(json!({ "events": events, "next_batch": next.0.to_string() })))
}
