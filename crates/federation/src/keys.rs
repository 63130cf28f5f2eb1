//! Keys for whoever wants to check signatures (server-server API, "Retrieving server keys"): this server's own, and as a notary those of others.
//! These endpoints ask for no signature.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, Request, State},
};
use futures_util::future::join_all;
use http::StatusCode;
use primitives::UnixMillis;
use ruma::{OwnedServerName, ServerName, canonical_json::CanonicalJsonObject};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Federation,
    error::{ApiError, ApiResult},
    extract::{parse, query, read_body},
};

/// Servers that one query may ask about. Whoever asks shows no signature, and each server may have to be asked in turn.
const MAX_SERVERS: usize = 20;
/// The largest body of a query.
const QUERY_MAX_BYTES: usize = 64 << 10;

/// `GET /_matrix/key/v2/server`.
pub(crate) async fn server(State(federation): State<Federation>) -> Json<CanonicalJsonObject> {
    Json(federation.keys().document(federation.clock.now()))
}

#[derive(Debug, Deserialize)]
struct Least {
    #[serde(default)]
    minimum_valid_until_ts: Option<u64>,
}

/// `GET /_matrix/key/v2/query/{serverName}`.
pub(crate) async fn query_one(
    State(federation): State<Federation>,
    Path(server): Path<String>,
    request: Request,
) -> ApiResult<Json<Value>> {
    let (parts, _) = request.into_parts();
    let Least { minimum_valid_until_ts } = query(&parts)?;
    let server = OwnedServerName::try_from(server)
        .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", "Not a server name"))?;
    let least = minimum_valid_until_ts.map_or_else(|| federation.clock.now(), UnixMillis);
    let found = document(&federation, &server, least).await?;
    Ok(answer(found.as_slice()))
}

#[derive(Debug, Deserialize)]
struct Query {
    server_keys: BTreeMap<OwnedServerName, BTreeMap<String, Least>>,
}

/// `POST /_matrix/key/v2/query`. Every document that is known holds all keys of its server, so the answer doesn't depend on which are asked for.
pub(crate) async fn query_many(State(federation): State<Federation>, request: Request) -> ApiResult<Json<Value>> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, QUERY_MAX_BYTES).await?;
    let Query { server_keys } = parse(&body)?;
    if server_keys.len() > MAX_SERVERS {
        let message = format!("More than {MAX_SERVERS} servers are asked about");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message));
    }
    let now = federation.clock.now();
    let documents = server_keys.iter().map(|(server, keys)| {
        let least = keys.values().filter_map(|key| key.minimum_valid_until_ts).max();
        document(&federation, server, least.map_or(now, UnixMillis))
    });
    let found = join_all(documents).await.into_iter().collect::<ApiResult<Vec<_>>>()?;
    Ok(answer(&found.into_iter().flatten().collect::<Vec<_>>()))
}

/// What is known of a server's keys, with this server's signature beside the server's own. An old document is better than none.
async fn document(
    federation: &Federation,
    server: &ServerName,
    least: UnixMillis,
) -> ApiResult<Option<CanonicalJsonObject>> {
    let known = federation.ring.document_valid_until(server, least).await.map_err(ApiError::internal)?;
    Ok(known.map(|known| {
        let mut json = known.json;
        if server != federation.keys().server_name() {
            federation.keys().sign(&mut json);
        }
        json
    }))
}

fn answer(server_keys: &[CanonicalJsonObject]) -> Json<Value> {
    Json(json!({ "server_keys": server_keys }))
}
