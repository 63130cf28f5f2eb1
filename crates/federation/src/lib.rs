//! The server-server API over HTTP. A handler authenticates, parses, calls and maps; no rule of a room and no table is known here.
//!
//! One endpoint, or one resource's methods, a file. [`error`] is the only place where errors become `errcode`s. The way in for what other servers
//! send is `rooms::Room::receive`.

mod discovery;
pub mod endpoints;
pub mod error;
mod extract;
mod keys;
mod query;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    routing::{get, post},
};
use federation_client::{FederationClient, KeyRing, OwnKeys};
use primitives::SharedClock;

/// What the federation API is configured with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where other servers reach this one, `host` or `host:port`, as `.well-known/matrix/server` tells; `None`: 404.
    pub server_address: Option<String>,
    /// The version of the program, for `/version`.
    pub version: &'static str,
    /// The largest body of a request, in bytes.
    pub request_max_bytes: usize,
    /// Profiles are shown to other servers.
    pub profiles_shown: bool,
}

/// What every handler has. Cheap to clone.
#[derive(Clone)]
pub struct Federation {
    /// Accounts and what belongs to them.
    pub users: users::Users,
    /// Rooms.
    pub rooms: rooms::Rooms,
    /// Asks other servers.
    pub client: FederationClient,
    /// Keys of all servers.
    pub ring: KeyRing,
    /// Time.
    pub clock: SharedClock,
    /// Configuration.
    pub options: Arc<Options>,
}

impl Federation {
    /// This server's keys.
    fn keys(&self) -> &OwnKeys {
        self.client.own_keys()
    }
}

impl fmt::Debug for Federation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Federation").field(&self.keys().server_name()).finish()
    }
}

/// The endpoints of [`endpoints::BUILT`]; a wrong method is 405 `M_UNRECOGNIZED`. Any other path goes to `others`.
pub fn router(federation: Federation, others: Router) -> Router {
    routes().with_state(federation).fallback_service(others)
}

fn routes() -> Router<Federation> {
    Router::new()
        .route("/.well-known/matrix/server", get(discovery::well_known))
        .route("/_matrix/federation/v1/version", get(discovery::version))
        .route("/_matrix/federation/v1/query/profile", get(query::profile))
        .route("/_matrix/key/v2/query", post(keys::query_many))
        .route("/_matrix/key/v2/query/{serverName}", get(keys::query_one))
        .route("/_matrix/key/v2/server", get(keys::server))
        .method_not_allowed_fallback(async || error::ApiError::method_not_allowed())
}
