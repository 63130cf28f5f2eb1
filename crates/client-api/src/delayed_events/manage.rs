//! Actions on a delayed event: `send`, `cancel`, `restart` (MSC4140).
//!
//! On the stable paths by its owner; on the unstable ones also by whoever knows its id, if the configuration allows that.

use ::delayed_events::{DelayId, TimerAction};
use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{errors::Generation, msc4140};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Body},
    routes::Routes,
};

pub(super) fn routes(routes: &mut Routes) {
    let actions = [("send", TimerAction::Send), ("cancel", TimerAction::Cancel), ("restart", TimerAction::Restart)];
    for (name, action) in actions {
        let path = format!("/_matrix/client/v1/delayed_events/{{delayId}}/{name}");
        routes.add(Method::POST, &path, move |api, who, id| stable(api, who, id, action));
        let path = format!("{}/{{delayId}}/{name}", msc4140!("/delayed_events"));
        routes.add(Method::POST, &path, move |api, who, id| unstable(api, who, id, action));
    }
    routes.add(Method::POST, msc4140!("/delayed_events/{delayId}"), in_the_body);
}

async fn stable(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(id): Args<String>,
    action: TimerAction,
) -> ApiResult<Json<Value>> {
    let done = api.delayed.act(Some(&who.user_id), &DelayId::new(id), action).await;
    done.map_err(|error| Generation::Stable.act(error))?;
    Ok(Json(json!({})))
}

async fn unstable(
    State(api): State<Api>,
    who: Option<Authenticated>,
    Args(id): Args<String>,
    action: TimerAction,
) -> ApiResult<Json<Value>> {
    if who.is_none() && !api.options.delayed_events_tokenless {
        return Err(ApiError::missing_token());
    }
    let by = who.as_ref().map(|Authenticated(who)| &*who.user_id);
    let done = api.delayed.act(by, &DelayId::new(id), action).await;
    done.map_err(|error| Generation::Unstable.act(error))?;
    Ok(Json(json!({})))
}

/// The body of the form that names the action there.
#[derive(Debug, Deserialize)]
struct Action {
    action: String,
}

async fn in_the_body(
    api: State<Api>,
    who: Option<Authenticated>,
    id: Args<String>,
    Body(Action { action }): Body<Action>,
) -> ApiResult<Json<Value>> {
    let action = match &*action {
        "send" => TimerAction::Send,
        "cancel" => TimerAction::Cancel,
        "restart" => TimerAction::Restart,
        _ => return Err(ApiError::invalid_param("`action` must be `send`, `cancel` or `restart`")),
    };
    unstable(api, who, id, action).await
}
