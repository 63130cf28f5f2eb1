//! What the engine says went wrong, as each generation of the API tells it.

use std::time::Duration;

use ::delayed_events::{ActError, Failure, FailureKind, ListError, Refusal, ScheduleError, StoreError};
use http::StatusCode;
use serde_json::{Value, json};

use crate::error::ApiError;

/// The generations that tell an error in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// The merged text.
    Stable,
    /// The dedicated paths under the unstable prefix.
    Unstable,
    /// A query parameter on the ordinary paths.
    Query,
    /// The futures of 2024.
    Futures,
}

/// The `errcode` of a refusal.
pub(super) fn errcode(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Forbidden => "M_FORBIDDEN",
        FailureKind::LimitExceeded => "M_LIMIT_EXCEEDED",
        FailureKind::TooLarge => "M_TOO_LARGE",
        FailureKind::BadContent => "M_BAD_JSON",
        FailureKind::Other => "M_UNKNOWN",
    }
}

/// A refusal that is over, as readers of the delayed event see it.
pub(super) fn failure(failure: &Failure) -> Value {
    json!({ "errcode": errcode(failure.kind), "error": failure.message })
}

/// A span in whole milliseconds.
pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(error)
    }
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        match error {
            ListError::BadToken => Self::invalid_param(error.to_string()),
            ListError::Store(error) => error.into(),
        }
    }
}

/// The same answer that the ordinary paths give.
fn refused(Refusal { failure, retry_after }: Refusal) -> ApiError {
    let status = match failure.kind {
        FailureKind::LimitExceeded => return ApiError::limit_exceeded(retry_after.unwrap_or(Duration::from_secs(1))),
        FailureKind::Forbidden => StatusCode::FORBIDDEN,
        FailureKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        FailureKind::BadContent | FailureKind::Other => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, errcode(failure.kind), failure.message)
}

impl Generation {
    /// Why nothing was scheduled.
    pub(super) fn schedule(self, error: ScheduleError) -> ApiError {
        let text = error.to_string();
        match error {
            ScheduleError::Disabled | ScheduleError::UnknownUser => ApiError::forbidden(text),
            ScheduleError::Suspended => ApiError::suspended(),
            ScheduleError::NoDelay | ScheduleError::GroupSize { .. } => ApiError::invalid_param(text),
            ScheduleError::DelayTooLarge { max } => self.too_long(text, max),
            ScheduleError::TooMany { retry_after, .. } => self.too_many(text, retry_after),
            ScheduleError::TooFast { retry_after } => ApiError::limit_exceeded(retry_after),
            ScheduleError::UnknownRoom => ApiError::not_found("Unknown room"),
            ScheduleError::TooLarge => ApiError::too_large(text),
            ScheduleError::GroupOfOther => ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNKNOWN", text),
            ScheduleError::GroupEnded => ApiError::new(StatusCode::GONE, "M_NOT_FOUND", text),
            // That something was sent is no error at most doors: they give the first answer again.
            ScheduleError::GroupWithoutTimer | ScheduleError::AlreadySent(_) => {
                ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", text)
            }
            ScheduleError::Refused(refusal) => refused(refusal),
            ScheduleError::Store(error) => error.into(),
        }
    }

    fn too_long(self, text: String, max: Duration) -> ApiError {
        let max = millis(max);
        match self {
            Self::Stable => ApiError::bad("M_DELAY_TOO_LARGE", text).with("max_delay_ms", max),
            Self::Unstable => ApiError::bad("ORG.MATRIX.MSC4140_DELAY_TOO_LARGE", text).with("max_delay_ms", max),
            Self::Query => {
                let error = ApiError::bad("M_UNKNOWN", text).with("org.matrix.msc4140.errcode", "M_MAX_DELAY_EXCEEDED");
                error.with("org.matrix.msc4140.max_delay", max)
            }
            Self::Futures => ApiError::invalid_param(text).with("org.matrix.msc4140.max_delay", max),
        }
    }

    fn too_many(self, text: String, retry_after: Duration) -> ApiError {
        match self {
            Self::Query => {
                let code = "M_MAX_DELAYED_EVENTS_EXCEEDED";
                ApiError::bad("M_UNKNOWN", text).with("org.matrix.msc4140.errcode", code)
            }
            Self::Stable | Self::Unstable | Self::Futures => ApiError::limit_exceeded(retry_after),
        }
    }

    /// Why an action was not done.
    pub(super) fn act(self, error: ActError) -> ApiError {
        match error {
            ActError::NotFound | ActError::Conflict(_) if self == Self::Futures => {
                ApiError::new(StatusCode::GONE, "M_NOT_FOUND", "The token is unknown or spent")
            }
            ActError::NotFound => ApiError::not_found("No such delayed event"),
            // Clients of the unstable paths try for ever after a 409.
            ActError::Conflict(_) if self == Self::Unstable => {
                ApiError::not_found("The delayed event has ended otherwise")
            }
            ActError::Conflict(_) => {
                ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", "The delayed event has ended otherwise")
            }
            ActError::TooFast { retry_after } | ActError::TooManyGuesses { retry_after } => {
                ApiError::limit_exceeded(retry_after)
            }
            ActError::Refused(refusal) => refused(refusal),
            ActError::Store(error) => error.into(),
        }
    }
}
