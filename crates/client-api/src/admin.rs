//! Administrators: who may be here, and from where they are (client-server API, "Server administration").

mod moderation;
mod whois;

use http::Method;
use ruma::OwnedUserId;

use crate::{
    error::{ApiError, ApiResult},
    routes::Routes,
};

pub(crate) fn routes(routes: &mut Routes) {
    for base in ["/_matrix/client/v1/admin", "/_matrix/client/unstable/uk.timedout.msc4323/admin"] {
        routes.add(Method::GET, &format!("{base}/lock/{{user}}"), moderation::is_locked);
        routes.add(Method::PUT, &format!("{base}/lock/{{user}}"), moderation::lock);
        routes.add(Method::GET, &format!("{base}/suspend/{{user}}"), moderation::is_suspended);
        routes.add(Method::PUT, &format!("{base}/suspend/{{user}}"), moderation::suspend);
    }
    routes.add(Method::GET, "/_matrix/client/v3/admin/whois/{user}", whois::whois);
}

/// A user id out of a path.
fn user_id(text: &str) -> ApiResult<OwnedUserId> {
    OwnedUserId::try_from(text).map_err(|_| ApiError::invalid_param("Not a user id"))
}
