//! The one file that turns what went wrong into what another server is told: a status, an `errcode`, a sentence.

use std::borrow::Cow;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use rooms::{AliasError, RoomError, read::ServeError, resident::ResidentError};
use serde_json::json;

/// An error response (server-server API, "Standard error responses").
#[derive(Debug)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The `errcode`.
    pub errcode: &'static str,
    /// The `error`: a sentence for people.
    pub message: Cow<'static, str>,
    /// The `room_version` of `M_INCOMPATIBLE_ROOM_VERSION`.
    pub room_version: Option<String>,
}

/// What an endpoint answers.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error with this status, code and sentence.
    pub(crate) fn new(status: StatusCode, errcode: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, errcode, message: message.into(), room_version: None }
    }

    /// 404 `M_NOT_FOUND`.
    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 401 `M_UNAUTHORIZED`: the request is not properly signed.
    pub(crate) fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub(crate) fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 403 `M_FORBIDDEN`.
    pub(crate) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 500 `M_UNKNOWN`. What happened is logged here, once, and not told.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request of another server failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal server error")
    }

    /// 405 `M_UNRECOGNIZED`: the endpoint knows no such method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", "Unrecognized method")
    }
}

impl From<AliasError> for ApiError {
    fn from(error: AliasError) -> Self {
        match error {
            AliasError::Unknown(_) | AliasError::UnknownRoom => Self::not_found("No room has this alias"),
            error => Self::internal(error),
        }
    }
}

impl From<ServeError> for ApiError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Forbidden => Self::forbidden(error.to_string()),
            ServeError::NotFound => Self::not_found(error.to_string()),
            ServeError::Storage(error) => Self::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({ "errcode": self.errcode, "error": self.message });
        if let Some(version) = self.room_version {
            body["room_version"] = version.into();
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<RoomError> for ApiError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::Unknown => Self::not_found("The room is not known here"),
            RoomError::Storage(error) => Self::internal(error),
        }
    }
}

impl From<ResidentError> for ApiError {
    fn from(error: ResidentError) -> Self {
        let bad = |errcode| Self::new(StatusCode::BAD_REQUEST, errcode, error.to_string());
        match error {
            ResidentError::UnknownRoom => Self::not_found("This server is not in the room"),
            ResidentError::IncompatibleVersion(version) => {
                Self { room_version: Some(version.to_string()), ..bad("M_INCOMPATIBLE_ROOM_VERSION") }
            }
            ResidentError::UnknownVersion(ref version) => {
                Self { room_version: Some(version.clone()), ..bad("M_INCOMPATIBLE_ROOM_VERSION") }
            }
            ResidentError::LimitExceeded(_) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "The user is invited too often")
            }
            ResidentError::InviteBlocked => {
                Self::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", "The user takes no invites")
            }
            ResidentError::Invalid(_) => bad("M_INVALID_PARAM"),
            ResidentError::Forbidden(reason) => Self::forbidden(reason),
            ResidentError::UnableToAuthorise => bad("M_UNABLE_TO_AUTHORISE_JOIN"),
            ResidentError::UnableToGrant => bad("M_UNABLE_TO_GRANT_JOIN"),
            ResidentError::Unavailable => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", "The room cannot be written to at the moment")
            }
            ResidentError::Storage(error) => Self::internal(error),
        }
    }
}
