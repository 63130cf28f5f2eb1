//! `GET /voip/turnServer` (client-server API, "Voice over IP"): credentials for the TURN service.

use axum::{Json, extract::State};
use http::Method;
use serde_json::{Value, json};

use crate::{Api, extract::Authenticated, routes::Routes};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/v3/voip/turnServer", turn_server);
}

/// An empty object where there is no service for this user, as clients expect it.
async fn turn_server(State(api): State<Api>, Authenticated(who): Authenticated) -> Json<Value> {
    Json(match api.users.turn(&who) {
        None => json!({}),
        Some((turn, credentials)) => json!({
            "username": credentials.username,
            "password": credentials.password,
            "uris": turn.uris,
            "ttl": turn.lifetime.as_secs(),
        }),
    })
}
