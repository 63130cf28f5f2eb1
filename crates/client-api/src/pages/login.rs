//! `GET /_matrix/static/client/login/` (client-server API, "Login Fallback").

use http::StatusCode;

use super::Page;

/// A page that logs in by password, in the browser, and hands the session to the client that opened it.
pub(super) async fn login() -> Page {
    Page {
        status: StatusCode::OK,
        title: "Log in",
        body: include_str!("login.html").to_owned(),
        script: Some(include_str!("login.js")),
    }
}
