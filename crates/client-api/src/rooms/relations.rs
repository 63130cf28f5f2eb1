//! `GET /rooms/{roomId}/relations/{eventId}`, also narrowed to a `rel_type` and an event type (client-server API, "Relationships API").

use ::rooms::read::{PageDirection, Relations, RelationsRequest};
use axum::{Json, extract::State};
use serde::Deserialize;
use users::Requester;

use super::{direction, event_id, page_token, reader, room_id};
use crate::{
    Api,
    error::ApiResult,
    extract::{Args, Authenticated, Query},
};

#[derive(Debug, Deserialize)]
pub(super) struct Parameters {
    dir: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    recurse: bool,
}

/// Which relations.
#[derive(Debug, Default)]
struct Wanted {
    rel_type: Option<String>,
    event_type: Option<String>,
}

pub(super) async fn all(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event)): Args<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Relations>> {
    answer(&api, &who, (&room, &event), Wanted::default(), parameters).await
}

pub(super) async fn of_type(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event, rel_type)): Args<(String, String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Relations>> {
    answer(&api, &who, (&room, &event), Wanted { rel_type: Some(rel_type), event_type: None }, parameters).await
}

pub(super) async fn of_types(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Args((room, event, rel_type, event_type)): Args<(String, String, String, String)>,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<Relations>> {
    let wanted = Wanted { rel_type: Some(rel_type), event_type: Some(event_type) };
    answer(&api, &who, (&room, &event), wanted, parameters).await
}

async fn answer(
    api: &Api,
    who: &Requester,
    (room, event): (&str, &str),
    wanted: Wanted,
    parameters: Parameters,
) -> ApiResult<Json<Relations>> {
    let request = RelationsRequest {
        event_id: event_id(event)?,
        rel_type: wanted.rel_type,
        event_type: wanted.event_type,
        direction: direction(parameters.dir.as_deref())?.unwrap_or(PageDirection::Backward),
        from: page_token(parameters.from.as_deref())?,
        to: page_token(parameters.to.as_deref())?,
        limit: parameters.limit,
        recurse: parameters.recurse,
    };
    Ok(Json(api.reads.relations(&reader(who), &room_id(room)?, request).await?))
}
