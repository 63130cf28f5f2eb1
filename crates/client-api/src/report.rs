//! Reports of events, rooms and users (client-server API, "Reporting Content"): kept for an administrator, who reads them at the command line.
//!
//! Whether a room or a user exists is never told. Whether an event does, only to those who are in its room and may see it.

use axum::{Json, extract::State};
use http::Method;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};
use users::{ReportSubject, Requester};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
    rooms::reader,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    let v3 = "/_matrix/client/v3";
    routes.add(Method::POST, &format!("{v3}/rooms/{{room}}/report"), room);
    routes.add(Method::POST, &format!("{v3}/rooms/{{room}}/report/{{event}}"), event);
    routes.add(Method::POST, &format!("{v3}/users/{{user}}/report"), user);
}

/// The body of a report of a room or a user.
#[derive(Debug, Deserialize)]
struct Reason {
    reason: String,
}

/// The body of a report of an event.
#[derive(Debug, Deserialize)]
struct EventReason {
    reason: Option<String>,
}

async fn file(api: &Api, who: &Requester, subject: ReportSubject, reason: String) -> ApiResult<Json<Value>> {
    api.users.reports().file(who.user_nid, subject, reason).await?;
    Ok(Json(json!({})))
}

async fn room(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(Reason { reason }): Body<Reason>,
) -> ApiResult<Json<Value>> {
    let room_id = OwnedRoomId::try_from(room).map_err(|_| ApiError::not_found("The room was not found"))?;
    api.users.reports().admit(who.user_nid, &reason)?;
    file(&api, &who, ReportSubject::Room { room_id: room_id.into() }, reason).await
}

async fn user(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(user): Args<String>,
    Body(Reason { reason }): Body<Reason>,
) -> ApiResult<Json<Value>> {
    let user_id = OwnedUserId::try_from(user).map_err(|_| ApiError::not_found("The user was not found"))?;
    api.users.reports().admit(who.user_nid, &reason)?;
    file(&api, &who, ReportSubject::User { user_id: user_id.into() }, reason).await
}

async fn event(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((room, event)): Args<(String, String)>,
    Body(EventReason { reason }): Body<EventReason>,
) -> ApiResult<Json<Value>> {
    let not_found = || ApiError::not_found("The event was not found or you are not joined to the room");
    let room_id = OwnedRoomId::try_from(room).map_err(|_| not_found())?;
    let event_id = OwnedEventId::try_from(event).map_err(|_| not_found())?;
    let reason = reason.unwrap_or_default();
    api.users.reports().admit(who.user_nid, &reason)?;
    let sender = api.reads.reported_sender(&reader(&who), &room_id, &event_id).await?;
    file(&api, &who, ReportSubject::Event { room_id: room_id.into(), event_id: event_id.to_string(), sender }, reason)
        .await
}
