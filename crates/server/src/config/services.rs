//! What clients are told to use beside this server, and whom it tells what: `[turn]`, `[rtc]`, `[profiles]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Span;

/// `[turn]`: the TURN service that clients use for calls between two. Without `uris` there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Turn {
    /// Where it is: `turn:` and `turns:` URIs.
    pub uris: Vec<String>,
    /// A secret shared with it, of which credentials that end are made.
    pub shared_secret: Option<String>,
    /// A user name that never changes, instead of a secret.
    pub username: Option<String>,
    /// The password that goes with it.
    pub password: Option<String>,
    /// How long clients may use what they are given before they ask again.
    pub user_lifetime: Span,
    /// Whether guests are given any.
    pub allow_guests: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            uris: Vec::new(),
            shared_secret: None,
            username: None,
            password: None,
            user_lifetime: Span(Duration::from_hours(1)),
            allow_guests: true,
        }
    }
}

/// `[rtc]`: what clients use for calls of many.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtc {
    /// The services, each an object with a `type` and what that type needs, in the order in which clients should try them.
    pub transports: Vec<Map<String, Value>>,
}

/// `[profiles]`: who may look up whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profiles {
    /// Whether profiles are shown only to those who are logged in.
    pub require_auth_for_profile_requests: bool,
    /// Whether profiles are shown only to those who share a room with their user; they must be logged in then.
    pub limit_profile_requests_to_users_who_share_rooms: bool,
}
