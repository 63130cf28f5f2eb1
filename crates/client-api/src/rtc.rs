//! `GET /rtc/transports` (MSC4143): which services clients may use for calls of many.

use axum::{Json, extract::State};
use http::Method;
use serde_json::{Value, json};

use crate::{Api, extract::Authenticated, routes::Routes};

pub(crate) fn routes(routes: &mut Routes) {
    for base in ["/_matrix/client/v1", "/_matrix/client/unstable/org.matrix.msc4143"] {
        routes.add(Method::GET, &format!("{base}/rtc/transports"), transports);
    }
}

/// The list, empty where nothing is configured: clients fail where it is missing.
async fn transports(State(api): State<Api>, _: Authenticated) -> Json<Value> {
    Json(json!({ "rtc_transports": api.options.rtc_transports }))
}
