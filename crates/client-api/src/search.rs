//! `POST /search` (client-server API, "Server Side Search").

use ::rooms::{filter::RoomEventFilter, read::Around};
use axum::{Json, extract::State};
use http::Method;
use search::{GroupBy, Key, Order, SearchRequest};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Body, NoGuest, Query},
    rooms::reader,
    routes::Routes,
};

/// Events around a result, before it and after it, if the request doesn't say how many.
const AROUND: usize = 5;
/// The most events around a result on each side.
const MAX_AROUND: usize = 50;

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/search", search);
}

#[derive(Debug, Deserialize)]
struct Parameters {
    next_batch: Option<String>,
}

#[derive(Debug, Deserialize)]
struct SearchBody {
    search_categories: Categories,
}

#[derive(Debug, Deserialize)]
struct Categories {
    room_events: Option<Criteria>,
}

#[derive(Debug, Deserialize)]
struct Criteria {
    search_term: String,
    keys: Option<Vec<Key>>,
    filter: Option<Box<RawValue>>,
    #[serde(default)]
    order_by: Order,
    event_context: Option<EventContext>,
    #[serde(default)]
    include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

#[derive(Debug, Deserialize)]
struct EventContext {
    before_limit: Option<u64>,
    after_limit: Option<u64>,
    #[serde(default)]
    include_profile: bool,
}

#[derive(Debug, Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<Grouping>,
}

#[derive(Debug, Deserialize)]
struct Grouping {
    key: GroupBy,
}

async fn search(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Query(parameters): Query<Parameters>,
    Body(body): Body<SearchBody>,
) -> ApiResult<Json<Value>> {
    let Some(search) = &api.search else {
        return Err(ApiError::bad("M_UNKNOWN", "Searching is switched off on this server"));
    };
    let Some(criteria) = body.search_categories.room_events else {
        return Ok(Json(json!({ "search_categories": {} })));
    };
    let request = criteria.request(parameters.next_batch)?;
    let found = search.search(&reader(&who), &request).await?;
    Ok(Json(json!({ "search_categories": { "room_events": found } })))
}

impl Criteria {
    fn request(self, next_batch: Option<String>) -> ApiResult<SearchRequest> {
        let filter = self.filter.map(|filter| RoomEventFilter::parse(filter.get())).transpose();
        Ok(SearchRequest {
            term: self.search_term,
            keys: self.keys.filter(|keys| !keys.is_empty()).unwrap_or_else(|| Key::ALL.to_vec()),
            filter: filter.map_err(|error| ApiError::bad_json(error.to_string()))?.unwrap_or_default(),
            order: self.order_by,
            around: self.event_context.map(|context| context.around()),
            include_state: self.include_state,
            group_by: self.groupings.group_by.into_iter().map(|grouping| grouping.key).collect(),
            next_batch: next_batch.filter(|token| !token.is_empty()),
        })
    }
}

impl EventContext {
    fn around(&self) -> Around {
        let limit = |asked: Option<u64>| {
            asked.map_or(AROUND, |asked| usize::try_from(asked).unwrap_or(MAX_AROUND).min(MAX_AROUND))
        };
        Around { before: limit(self.before_limit), after: limit(self.after_limit), profiles: self.include_profile }
    }
}
