//! `POST /keys/query`: the identity keys and cross-signing keys of users.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::keys::{Asker, Query, UserKeys};

use super::{alone, failures, timeout};
use crate::{
    Api,
    error::ApiResult,
    extract::{Authenticated, KeysBody},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/query", query);
}

#[derive(Debug, Deserialize)]
struct Request {
    device_keys: Query,
    timeout: Option<u64>,
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
    KeysBody(request): KeysBody<Request>,
) -> ApiResult<Json<Answer>> {
    let keys = api.users.keys();
    let (local, remote) = keys.by_server(request.device_keys);
    let mut found = keys.query(Asker::User(&who), &local).await?;
    let failures = match &api.remotes {
        Some(client) if !remote.is_empty() => {
            let (theirs, unanswered) = keys.query_remote(client, &who, remote, timeout(request.timeout)).await?;
            found.extend(theirs);
            failures(unanswered)
        }
        _ => alone(remote),
    };
    Ok(Json(Answer { keys: found, failures }))
}
