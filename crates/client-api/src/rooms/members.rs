//! `GET /rooms/{roomId}/members` and `joined_members` (client-server API, "Getting events for a room").

use ::rooms::{
    Membership,
    read::{JoinedMembers, MembersRequest},
    render::ClientEvent,
    tokens::PageToken,
};
use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::{reader, room_id};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Authenticated, NoGuest, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    at: Option<String>,
    membership: Option<String>,
    not_membership: Option<String>,
}

/// Written as it is: there can be very many.
#[derive(Debug, Serialize)]
pub(super) struct Members {
    chunk: Vec<ClientEvent>,
}

fn membership(text: Option<&str>) -> ApiResult<Option<Membership>> {
    let membership = match text {
        None => return Ok(None),
        Some("join") => Membership::Join,
        Some("invite") => Membership::Invite,
        Some("leave") => Membership::Leave,
        Some("ban") => Membership::Ban,
        Some("knock") => Membership::Knock,
        Some(_) => return Err(ApiError::invalid_param("No such membership")),
    };
    Ok(Some(membership))
}

pub(super) async fn members(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args(room): Args<String>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Members>> {
    let request = MembersRequest {
        at: parameters.at.as_deref().map(str::parse::<PageToken>).transpose()?,
        membership: membership(parameters.membership.as_deref())?,
        not_membership: membership(parameters.not_membership.as_deref())?,
    };
    let chunk = api.reads.members(&reader(&who), &room_id(&room)?, request).await?;
    Ok(Json(Members { chunk }))
}

pub(super) async fn joined(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(room): Args<String>,
) -> ApiResult<Json<JoinedMembers>> {
    Ok(Json(api.reads.joined_members(&reader(&who), &room_id(&room)?).await?))
}
