//! `POST /keys/claim`: one-time keys of others' devices.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::keys::{Claims, Issued};

use super::{alone, failures, timeout};
use crate::{
    Api,
    error::ApiResult,
    extract::{Authenticated, KeysBody},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/keys/claim", claim);
}

#[derive(Debug, Deserialize)]
struct Claim {
    one_time_keys: Claims,
    timeout: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Claimed {
    one_time_keys: Issued,
    failures: BTreeMap<OwnedServerName, Value>,
}

async fn claim(
    State(api): State<Api>,
    Authenticated(_): Authenticated,
    KeysBody(request): KeysBody<Claim>,
) -> ApiResult<Json<Claimed>> {
    let keys = api.users.keys();
    let (local, remote) = keys.by_server(request.one_time_keys);
    let mut issued = keys.claim(local).await?;
    let failures = match &api.remotes {
        Some(client) if !remote.is_empty() => {
            let (theirs, unanswered) = keys.claim_remote(client, remote, timeout(request.timeout)).await?;
            issued.extend(theirs);
            failures(unanswered)
        }
        _ => alone(remote),
    };
    Ok(Json(Claimed { one_time_keys: issued, failures }))
}
