//! `POST /event_relationships` (MSC2836): a walk over events that relate to each other.

use ::rooms::read::{Relationships, RelationshipsRequest, Towards, WalkOrder};
use axum::{Json, extract::State};
use serde::Deserialize;

use super::{event_id, reader};
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Body},
};

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the request")]
pub(super) struct Walk {
    event_id: String,
    /// Negative: without bound.
    #[serde(default = "three")]
    max_depth: i64,
    #[serde(default = "ten")]
    max_breadth: i64,
    #[serde(default = "hundred")]
    limit: u64,
    #[serde(default)]
    depth_first: bool,
    #[serde(default = "yes")]
    recent_first: bool,
    #[serde(default)]
    include_parent: bool,
    #[serde(default)]
    include_children: bool,
    direction: Option<String>,
}

fn three() -> i64 {
    3
}

fn ten() -> i64 {
    10
}

fn hundred() -> u64 {
    100
}

fn yes() -> bool {
    true
}

pub(super) async fn event_relationships(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Body(walk): Body<Walk>,
) -> ApiResult<Json<Relationships>> {
    let towards = match walk.direction.as_deref() {
        None | Some("down") => Towards::Children,
        Some("up") => Towards::Parents,
        Some(_) => return Err(ApiError::invalid_param("`direction` is `up` or `down`")),
    };
    let request = RelationshipsRequest {
        event_id: event_id(&walk.event_id)?,
        max_depth: usize::try_from(walk.max_depth).ok(),
        max_breadth: usize::try_from(walk.max_breadth).ok(),
        limit: usize::try_from(walk.limit).unwrap_or(usize::MAX),
        order: if walk.depth_first { WalkOrder::DepthFirst } else { WalkOrder::BreadthFirst },
        recent_first: walk.recent_first,
        include_parent: walk.include_parent,
        include_children: walk.include_children,
        towards,
    };
    Ok(Json(api.reads.relationships(&reader(&who), &request).await?))
}
