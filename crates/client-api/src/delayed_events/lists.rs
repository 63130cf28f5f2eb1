//! The lists of 2025: `GET …/delayed_events/scheduled` and `…/finalised` (MSC4140, 2024-10 to 2025-09).

use ::delayed_events::{ListQuery, Status};
use axum::{
    Json,
    extract::{RawQuery, State},
};
use http::Method;
use serde_json::Value;

use super::{
    errors::Generation,
    msc4140,
    read::{ENDED, body, parse},
    render,
};
use crate::{Api, error::ApiResult, extract::Authenticated, routes::Routes};

pub(super) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, msc4140!("/delayed_events/scheduled"), scheduled);
    routes.add(Method::GET, msc4140!("/delayed_events/finalised"), finalised);
}

async fn scheduled(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Value>> {
    let query = ListQuery { status: vec![Status::Scheduled], ..parse(query.as_deref(), Generation::Unstable)? };
    let page = api.delayed.list(&who.user_id, &query).await?;
    let events = page.events.iter().map(render::scheduled_2025).collect();
    Ok(Json(body([("scheduled", events)], &page)))
}

async fn finalised(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Value>> {
    let query = ListQuery { status: ENDED.to_vec(), ..parse(query.as_deref(), Generation::Unstable)? };
    let page = api.delayed.list(&who.user_id, &query).await?;
    let events = page.events.iter().filter_map(render::finalised_2025).collect();
    Ok(Json(body([("finalised", events)], &page)))
}
