//! Presence (client-server API, "Presence").

use std::time::Duration;

use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::{
    Limit,
    presence::{Presence, PresenceState},
};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
    profile::user_id,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    let path = "/_matrix/client/v3/presence/{user}/status";
    routes.add(Method::GET, path, get);
    routes.add(Method::PUT, path, set);
}

/// The state of that name.
pub(crate) fn state(name: &str) -> ApiResult<PresenceState> {
    let state = PresenceState::parse(name);
    state.ok_or_else(|| ApiError::invalid_param("`presence` is `online`, `unavailable` or `offline`"))
}

async fn get(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(user): Args<String>,
) -> ApiResult<Json<Map<String, Value>>> {
    let stranger = || ApiError::forbidden("You share no room with this user");
    let user_id = user_id(&user)?;
    if !api.users.is_local(&user_id) {
        if !api.reads.share_a_room(who.user_nid, &user_id).await.map_err(ApiError::internal)? {
            return Err(stranger());
        }
        let told = api.users.presence().of_remote(&user_id);
        return Ok(Json(told.map_or_else(offline, |told| {
            body(told.state, told.currently_active, told.last_active_ago, told.status_msg)
        })));
    }
    let user = api.users.nid(&user_id).await?.ok_or_else(stranger)?;
    if !api.reads.shares_room(who.user_nid, user).await.map_err(ApiError::internal)? {
        return Err(stranger());
    }
    let presence = api.users.presence().get(&user_id, user).await?;
    let Presence { state, currently_active, last_active_ago, status_msg, .. } = presence;
    Ok(Json(body(state, currently_active, last_active_ago, status_msg)))
}

/// The presence of somebody of whom nothing is known.
fn offline() -> Map<String, Value> {
    body(PresenceState::Offline, false, None, None)
}

fn body(
    state: PresenceState,
    currently_active: bool,
    last_active_ago: Option<Duration>,
    status_msg: Option<String>,
) -> Map<String, Value> {
    let mut body = Map::from_iter([("presence".to_owned(), json!(state.as_str()))]);
    if state == PresenceState::Online {
        body.insert("currently_active".to_owned(), json!(currently_active));
    }
    if let Some(ago) = last_active_ago {
        body.insert("last_active_ago".to_owned(), json!(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    if let Some(message) = status_msg {
        body.insert("status_msg".to_owned(), json!(message));
    }
    body
}

#[derive(Debug, Deserialize)]
struct Status {
    presence: String,
    status_msg: Option<String>,
}

async fn set(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(user): Args<String>,
    Body(status): Body<Status>,
) -> ApiResult<Json<Value>> {
    if user_id(&user)? != who.user_id {
        return Err(ApiError::forbidden("This is somebody else's presence"));
    }
    let state = state(&status.presence)?;
    api.users.limits().check(Limit::Updates(who.user_nid))?;
    let presence = api.users.presence();
    presence.set((&who.user_id, who.user_nid), who.device_id.as_deref(), state, status.status_msg).await?;
    Ok(Json(json!({})))
}
