//! Stored filters (client-server API, "Filtering").

use ::rooms::filter::Filter;
use axum::{Json, extract::State};
use http::Method;
use primitives::canonical;
use ruma::{OwnedUserId, canonical_json::CanonicalJsonObject};
use serde_json::{Value, json, value::RawValue};
use users::Requester;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, Body, NoGuest},
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::POST, "/_matrix/client/v3/user/{user}/filter", store);
    routes.add(Method::GET, "/_matrix/client/v3/user/{user}/filter/{filter}", get);
}

fn own(who: &Requester, user: &str) -> ApiResult<()> {
    let user = OwnedUserId::try_from(user).map_err(|_| ApiError::invalid_param("Not a user id"))?;
    if user == who.user_id { Ok(()) } else { Err(ApiError::forbidden("These are somebody else's filters")) }
}

async fn store(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args(user): Args<String>,
    Body(filter): Body<CanonicalJsonObject>,
) -> ApiResult<Json<Value>> {
    own(&who, &user)?;
    let bytes = canonical::to_bytes(&filter);
    let text = std::str::from_utf8(&bytes).map_err(ApiError::internal)?;
    Filter::parse(text).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let id = api.users.filters().store(who.user_nid, &filter).await?;
    Ok(Json(json!({ "filter_id": id })))
}

async fn get(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Args((user, id)): Args<(String, String)>,
) -> ApiResult<Json<Box<RawValue>>> {
    own(&who, &user)?;
    let filter = api.users.filters().get(who.user_nid, &id).await?;
    let filter = filter.ok_or_else(|| ApiError::not_found("No such filter"))?;
    RawValue::from_string(filter).map(Json).map_err(ApiError::internal)
}
