//! `GET /sync` (client-server API, "Syncing").

use std::time::Duration;

use ::rooms::{
    filter::Filter,
    sync::{ReadTooSlowly, StateAfter, SyncAnswer, SyncPieces, SyncRequest},
    tokens::SyncToken,
};
use axum::{
    Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{Method, header};
use serde::Deserialize;
use users::Requester;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Authenticated, Query},
    presence,
    rooms::reader,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/v3/sync", sync);
}

#[derive(Debug, Deserialize)]
struct Parameters {
    filter: Option<String>,
    since: Option<String>,
    #[serde(default)]
    full_state: bool,
    set_presence: Option<String>,
    /// In milliseconds.
    #[serde(default)]
    timeout: u64,
    #[serde(default)]
    use_state_after: bool,
    #[serde(default, rename = "org.matrix.msc4222.use_state_after")]
    use_state_after_unstable: bool,
}

/// A filter out of the query: JSON, or the id of a stored one.
async fn filter(api: &Api, who: &Requester, text: Option<&str>) -> ApiResult<Filter> {
    let stored;
    let json = match text {
        None => return Ok(Filter::default()),
        Some(inline) if inline.trim_start().starts_with('{') => inline,
        Some(id) => {
            stored = api.users.filters().get(who.user_nid, id).await?;
            stored.as_deref().ok_or_else(|| ApiError::invalid_param("No such filter"))?
        }
    };
    Filter::parse(json).map_err(|error| ApiError::invalid_param(error.to_string()))
}

async fn sync(
    State(api): State<Api>,
    Authenticated(who): Authenticated,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Response> {
    let state_after = match (parameters.use_state_after, parameters.use_state_after_unstable) {
        (true, _) => StateAfter::Stable,
        (false, true) => StateAfter::Unstable,
        (false, false) => StateAfter::No,
    };
    let request = SyncRequest {
        since: parameters.since.as_deref().map(str::parse::<SyncToken>).transpose()?,
        filter: filter(&api, &who, parameters.filter.as_deref()).await?,
        full_state: parameters.full_state,
        timeout: Duration::from_millis(parameters.timeout.min(api.options.sync_timeout_max_ms)),
        state_after,
    };
    let set_presence = parameters.set_presence.as_deref().map(presence::state).transpose()?;
    let user = (&*who.user_id, who.user_nid);
    // The device is there as long as this is held.
    let _syncing = api.users.presence().sync(user, who.device_id.as_deref(), set_presence).await?;
    let reader = reader(&who);
    let response = match api.reads.answer_sync(&reader, request).await.map_err(ApiError::internal)? {
        SyncAnswer::Pieces(pieces) => return Ok(in_pieces(*pieces)),
        SyncAnswer::Whole(response) => response,
    };
    if parameters.timeout > 0 {
        // Somebody who was logged out, locked or deactivated while this waited is told that, and no news.
        api.users.check_still_in(&who).await?;
    }
    Ok(Json(response).into_response())
}

/// A response that is made while it is sent.
fn in_pieces(pieces: SyncPieces) -> Response {
    let stream = futures_util::stream::try_unfold(pieces, async |mut pieces| {
        let piece = pieces.next().await?;
        Ok::<_, ReadTooSlowly>(piece.map(|piece| (piece, pieces)))
    });
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(stream)).into_response()
}
