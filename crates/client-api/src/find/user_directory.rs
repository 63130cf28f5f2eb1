//! `POST /user_directory/search` (client-server API, "User directory").

use ::rooms::find::FoundPeople;
use axum::{Json, extract::State};
use serde::Deserialize;

use crate::{
    Api,
    error::ApiResult,
    extract::{Authenticated, Body},
    rooms::reader,
};

#[derive(Debug, Deserialize)]
pub(super) struct Request {
    search_term: String,
    limit: Option<u64>,
}

pub(super) async fn search(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Body(request): Body<Request>,
) -> ApiResult<Json<FoundPeople>> {
    let searched = api.options.people_searched;
    Ok(Json(api.reads.find_people(&reader(&who), &request.search_term, request.limit, searched).await?))
}
