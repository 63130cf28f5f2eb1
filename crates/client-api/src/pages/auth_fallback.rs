//! `GET` and `POST /auth/{auth_type}/fallback/web` (client-server API, "User-interactive authentication API", "Fallback").
//!
//! A page for the stages that a client may not know. A password is never asked for here: every client knows that stage, and a page that asks
//! for passwords is one to be imitated.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use users::uia::{FallbackError, OutOfBand, Stage, StageError};

use super::Page;
use crate::{
    Api,
    error::{ApiError, ApiResult},
    extract::{Args, From, Query, RawBody, form_pairs},
};

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    session: Option<String>,
}

/// The stage out of a path, if it has a page.
fn stage(name: &str) -> ApiResult<Stage> {
    let stages = [Stage::Dummy, Stage::RegistrationToken];
    let found = stages.into_iter().find(|stage| stage.as_str() == name);
    found.ok_or_else(|| ApiError::not_found("This stage has no page of its own"))
}

fn session(asked: Asked) -> ApiResult<String> {
    asked.session.ok_or_else(|| ApiError::missing_param("`session` is missing"))
}

pub(super) async fn show(
    State(api): State<Api>,
    Args(name): Args<String>,
    Query(asked): Query<Asked>,
) -> ApiResult<Page> {
    let stage = stage(&name)?;
    Ok(if api.users.awaits(&session(asked)?, stage) { form(stage, None) } else { over() })
}

pub(super) async fn submit(
    State(api): State<Api>,
    Args(name): Args<String>,
    Query(asked): Query<Asked>,
    From(address): From,
    RawBody(body): RawBody,
) -> ApiResult<Page> {
    let stage = stage(&name)?;
    let session = session(asked)?;
    let fields = form_pairs(std::str::from_utf8(&body).unwrap_or_default());
    let token = fields.into_iter().find(|(key, _)| key == "token").map(|(_, token)| token);
    let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    let attempt = OutOfBand { session: &session, stage, token, address };
    match api.users.complete_out_of_band(attempt).await {
        Ok(()) => Ok(done()),
        Err(FallbackError::UnknownSession) => Ok(over()),
        Err(FallbackError::Stage(error)) => Ok(form(stage, Some(error))),
        Err(FallbackError::Attempt(error)) => Err(error.into()),
    }
}

/// The form of a stage; it is sent to the address that it came from.
fn form(stage: Stage, error: Option<StageError>) -> Page {
    let problem = match error {
        None => "",
        Some(StageError::Missing(_)) => "<p class=\"error\" role=\"alert\">Please enter the token.</p>\n",
        Some(_) => "<p class=\"error\" role=\"alert\">This token is not valid.</p>\n",
    };
    let field = match stage {
        Stage::RegistrationToken => {
            "<label>Registration token <input name=\"token\" autocomplete=\"off\" autocapitalize=\"none\" required></label>\n"
        }
        Stage::Dummy | Stage::Password => "<p>Your app asks to go on.</p>\n",
    };
    let body =
        format!("<h1>Continue</h1>\n{problem}<form method=\"post\">\n{field}<button>Continue</button>\n</form>\n");
    let status = if error.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::OK };
    Page { status, title: "Continue", body, script: None }
}

/// The stage is completed: the page tells the client, which asks again.
fn done() -> Page {
    let body = "<h1>Thank you</h1>\n<p>You can close this page and go back to your app.</p>\n".to_owned();
    Page { status: StatusCode::OK, title: "Thank you", body, script: Some(include_str!("done.js")) }
}

/// There is no such session, or it has gone on.
fn over() -> Page {
    let body = "<h1>Too late</h1>\n<p>There is nothing to do here. Please start again in your app.</p>\n".to_owned();
    Page { status: StatusCode::BAD_REQUEST, title: "Too late", body, script: None }
}
