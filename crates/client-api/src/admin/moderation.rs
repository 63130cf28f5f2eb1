//! `GET` and `PUT /admin/lock/{userId}` and `/admin/suspend/{userId}` (client-server API, "Server administration").

use ::delayed_events::CancelReason;
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::{Administration, ModerationError, Requester};

use super::user_id;
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, Body},
};

/// The user out of a path. Who is no administrator isn't even told whether it is one.
fn target(who: &Requester, user: &str) -> ApiResult<ruma::OwnedUserId> {
    if who.is_admin { user_id(user) } else { Err(ModerationError::NotAdmin.into()) }
}

pub(super) async fn is_locked(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(user): Args<String>,
) -> ApiResult<Json<Value>> {
    let account = api.users.looked_after(&who, &target(&who, &user)?).await?;
    Ok(Json(json!({ "locked": account.restrictions.locked })))
}

pub(super) async fn is_suspended(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(user): Args<String>,
) -> ApiResult<Json<Value>> {
    let account = api.users.looked_after(&who, &target(&who, &user)?).await?;
    Ok(Json(json!({ "suspended": account.restrictions.suspended })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Lock {
    locked: bool,
}

pub(super) async fn lock(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(user): Args<String>,
    Body(Lock { locked }): Body<Lock>,
) -> ApiResult<Json<Value>> {
    moderate(&api, &who, &user, Administration::Locked(locked), locked).await?;
    Ok(Json(json!({ "locked": locked })))
}

#[derive(Debug, Deserialize)]
pub(super) struct Suspend {
    suspended: bool,
}

pub(super) async fn suspend(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(user): Args<String>,
    Body(Suspend { suspended }): Body<Suspend>,
) -> ApiResult<Json<Value>> {
    moderate(&api, &who, &user, Administration::Suspended(suspended), suspended).await?;
    Ok(Json(json!({ "suspended": suspended })))
}

/// Changes the account. What somebody who may no longer write has scheduled is cancelled; if the server ends in between, each of the events is
/// when it is due.
async fn moderate(api: &Api, who: &Requester, user: &str, change: Administration, stops: bool) -> ApiResult<()> {
    let user = target(who, user)?;
    api.users.moderate(who, &user, change).await?;
    if stops {
        api.delayed.cancel_all(&user, CancelReason::Account).await.map_err(ApiError::internal)?;
    }
    Ok(())
}
