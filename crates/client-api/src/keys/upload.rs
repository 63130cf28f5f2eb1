//! `POST /keys/upload`: the keys of the device that asks.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use serde::Deserialize;
use serde_json::{Value, json};
use users::keys::KeyUpload;

use crate::{
    Api,
    error::ApiResult,
    extract::{Authenticated, KeysBody},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/upload", upload);
}

#[derive(Debug, Deserialize)]
struct Upload {
    #[serde(rename = "device_keys")]
    device: Option<CanonicalJsonObject>,
    #[serde(rename = "one_time_keys")]
    one_time: Option<BTreeMap<String, CanonicalJsonValue>>,
    #[serde(rename = "fallback_keys", alias = "org.matrix.msc2732.fallback_keys")]
    fallback: Option<BTreeMap<String, CanonicalJsonValue>>,
}

async fn upload(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    KeysBody(request): KeysBody<Upload>,
) -> ApiResult<Json<Value>> {
    let upload = KeyUpload {
        device_keys: request.device,
        one_time_keys: request.one_time.unwrap_or_default(),
        fallback_keys: request.fallback.unwrap_or_default(),
    };
    let left = api.users.keys().upload(&who, upload).await?;
    Ok(Json(json!({ "one_time_key_counts": left.one_time })))
}
