//! `POST /keys/claim`: one-time keys of others' devices.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::keys::{Claims, Issued};

use super::reached;
use crate::{
    Api,
    error::ApiResult,
    extract::{Authenticated, Body},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/claim", claim);
}

#[derive(Debug, Deserialize)]
struct Claim {
    one_time_keys: Claims,
}

#[derive(Debug, Serialize)]
struct Claimed {
    one_time_keys: Issued,
    failures: BTreeMap<OwnedServerName, Value>,
}

async fn claim(
    State(api): State<Api>,
    Authenticated(_): Authenticated,
    Body(request): Body<Claim>,
) -> ApiResult<Json<Claimed>> {
    let keys = api.users.keys();
    let (local, failures) = reached(keys.by_server(request.one_time_keys));
    Ok(Json(Claimed { one_time_keys: keys.claim(local).await?, failures }))
}
