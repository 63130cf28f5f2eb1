//! `PUT /send_join/{roomId}/{eventId}`: a join, answered with the room before it.

use axum::{
    extract::{Path, State},
    response::Response,
};
use rooms::resident::{JoinAnswer, Making};
use serde::Deserialize;
use serde_json::json;

use super::{room, submitted};
use crate::{
    Federation,
    error::ApiResult,
    extract::Signed,
    lists::{Lists, Shape},
};

#[derive(Debug, Deserialize)]
struct Query {
    #[serde(default)]
    omit_members: bool,
}

/// `PUT /_matrix/federation/v1/send_join/{roomId}/{eventId}`.
pub(crate) async fn v1(
    State(federation): State<Federation>,
    Path((room_id, event_id)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Response> {
    Ok(lists(&federation, join(&federation, &room_id, &event_id, &signed, false).await?).in_pair().into_response())
}

/// `PUT /_matrix/federation/v2/send_join/{roomId}/{eventId}`.
pub(crate) async fn v2(
    State(federation): State<Federation>,
    Path((room_id, event_id)): Path<(String, String)>,
    signed: Signed,
) -> ApiResult<Response> {
    let Query { omit_members } = signed.query()?;
    let answer = join(&federation, &room_id, &event_id, &signed, omit_members).await?;
    Ok(lists(&federation, answer).into_response())
}

async fn join(
    federation: &Federation,
    room_id: &str,
    event_id: &str,
    signed: &Signed,
    omit_members: bool,
) -> ApiResult<JoinAnswer> {
    let join = submitted(signed, Making::Join, event_id)?;
    Ok(room(federation, room_id).await?.accept_join(join, omit_members, &federation.remote()).await?)
}

fn lists(federation: &Federation, answer: JoinAnswer) -> Lists {
    let JoinAnswer { event, state, auth_chain, servers_in_room } = answer;
    let mut lists = Lists::new(Shape::Pdus)
        .field("origin", &json!(federation.keys().server_name()).to_string())
        .field("event", event.json())
        .field("members_omitted", if servers_in_room.is_some() { "true" } else { "false" });
    if let Some(servers) = servers_in_room {
        lists = lists.field("servers_in_room", &json!(servers).to_string());
    }
    lists.list("state", state).list("auth_chain", auth_chain)
}
