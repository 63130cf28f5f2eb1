//! `POST /rooms/{roomId}/kick`, `…/ban`, `…/unban` (client-server API, "Room membership"): what one member does to another user.

use axum::{Json, extract::State};
use http::Method;
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{V3, details, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Body, NoGuest},
    routes::Routes,
};

#[derive(Clone, Copy, Debug)]
enum Action {
    Kick,
    Ban,
    Unban,
}

/// Who it is done to, and why.
#[derive(Debug, Deserialize)]
struct Target {
    user_id: OwnedUserId,
    reason: Option<String>,
}

pub(super) fn routes(routes: &mut Routes) {
    for (name, action) in [("kick", Action::Kick), ("ban", Action::Ban), ("unban", Action::Unban)] {
        let handler = move |api: State<Api>, who: NoGuest, room: Args<String>, target: Body<Target>| {
            moderate(api, who, room, target, action)
        };
        routes.add(Method::POST, &format!("{V3}/rooms/{{room}}/{name}"), handler);
    }
}

async fn moderate(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
    Body(Target { user_id, reason }): Body<Target>,
    action: Action,
) -> ApiResult<Json<Value>> {
    let room = api.rooms.room(&room_id(&room)?).await?;
    let details = details(&who, reason);
    match action {
        Action::Kick => room.kick(&who.user_id, &user_id, details).await?,
        Action::Ban => room.ban(&who.user_id, &user_id, details).await?,
        Action::Unban => room.unban(&who.user_id, &user_id, details).await?,
    };
    Ok(Json(json!({})))
}
