//! `POST /account/deactivate` (client-server API, "Account deactivation").

use ::delayed_events::CancelReason;
use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use users::uia::{Operation, Stage};

use super::{Auth, interact};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Body, From, NoGuest},
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    erase: bool,
    auth: Option<Auth>,
}

/// Only for who is logged in: without an e-mail address there is nothing else to know a user by. The user leaves their rooms in the background.
///
/// There are no third-party identifiers here, so all of them are unbound.
pub(super) async fn deactivate(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    From(address): From,
    Body(request): Body<Request>,
) -> ApiResult<Json<Value>> {
    let operation = Operation::new("deactivate", &[]);
    interact(&api, Some(&who), operation, vec![vec![Stage::Password]], request.auth, address).await?;
    api.jobs.deactivate(who.user_nid, request.erase).await?;
    // If the server ends before this is done, each of the events is cancelled when it is due.
    api.delayed.cancel_all(&who.user_id, CancelReason::Account).await.map_err(ApiError::internal)?;
    Ok(Json(json!({ "id_server_unbind_result": "success" })))
}
