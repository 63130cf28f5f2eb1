//! `POST /keys/query`: the identity keys and cross-signing keys of users.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::keys::{Asker, Query, UserKeys};

use super::reached;
use crate::{
    Api,
    error::ApiResult,
    extract::{Authenticated, Body},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/query", query);
}

#[derive(Debug, Deserialize)]
struct Request {
    device_keys: Query,
}

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    keys: UserKeys,
    failures: BTreeMap<OwnedServerName, Value>,
}

async fn query(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Body(request): Body<Request>,
) -> ApiResult<Json<Answer>> {
    let keys = api.users.keys();
    let (local, failures) = reached(keys.by_server(request.device_keys));
    Ok(Json(Answer { keys: keys.query(Asker::User(&who), &local).await?, failures }))
}
