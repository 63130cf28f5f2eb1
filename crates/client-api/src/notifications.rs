//! `GET /notifications` (client-server API, "Listing Notifications").

use ::rooms::counts::{DEFAULT_NOTIFICATIONS, MAX_NOTIFICATIONS, NotificationList, NotificationsRequest};
use axum::{Json, extract::State};
use http::Method;
use serde::Deserialize;

use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{NoGuest, Query},
    rooms::reader,
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    routes.add(Method::GET, "/_matrix/client/v3/notifications", notifications);
}

#[derive(Debug, Deserialize)]
struct Parameters {
    from: Option<String>,
    limit: Option<usize>,
    only: Option<String>,
}

async fn notifications(
    State(api): State<Api>,
    NoGuest(who): NoGuest,
    Query(parameters): Query<Parameters>,
) -> ApiResult<Json<NotificationList>> {
    let request = NotificationsRequest {
        from: parameters.from.as_deref().map(str::parse).transpose()?,
        limit: parameters.limit.unwrap_or(DEFAULT_NOTIFICATIONS).clamp(1, MAX_NOTIFICATIONS),
        only_highlights: parameters.only.as_deref() == Some("highlight"),
    };
    Ok(Json(api.reads.notifications(&reader(&who), request).await.map_err(ApiError::internal)?))
}
