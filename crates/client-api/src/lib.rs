//! The client-server API over HTTP. A handler authenticates, parses, calls and maps; no rule of a room and no table is known here.
//!
//! One endpoint, or one resource's methods, a file. [`error`] is the only place where domain errors become `errcode`s.

mod account;
mod account_data;
mod admin;
mod dehydrated_device;
mod delayed_events;
mod devices;
mod discovery;
mod endpoints;
pub mod error;
mod errors;
mod extract;
mod filter;
mod find;
mod keys;
mod notifications;
mod old_sync;
mod openid;
mod pages;
mod presence;
mod profile;
mod push_rules;
mod report;
mod room_keys;
mod rooms;
mod routes;
mod rtc;
mod search;
mod send_to_device;
mod sync;
mod tags;
mod voip;

use std::sync::Arc;

use axum::Router;
use http::{Method, Request, Uri, header};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{Any, CorsLayer},
};

/// Whom a profile is shown to when they ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfilePolicy {
    /// Everybody, logged in or not.
    Everybody,
    /// Users of this server.
    LoggedIn,
    /// The user, and users of this server who share a room with them.
    SharedRooms,
}

/// What the client API is configured with.
#[derive(Debug, Clone)]
pub struct Options {
    /// The largest JSON body, in bytes.
    pub body_max_bytes: usize,
    /// The same for key uploads and key backups.
    pub keys_body_max_bytes: usize,
    /// The deepest JSON nesting of a body, in levels.
    pub json_max_depth: usize,
    /// The longest that a sync may wait, in milliseconds.
    pub sync_timeout_max_ms: u64,
    /// Where clients reach this server from outside, for `.well-known`; `None`: nothing is published.
    pub public_base_url: Option<String>,
    /// The body of `/.well-known/matrix/support`; `None`: 404.
    pub support: Option<serde_json::Value>,
    /// What `/rtc/transports` lists (MSC4143), each an object with a `type`.
    pub rtc_transports: Vec<serde_json::Value>,
    /// Whom a profile is shown to.
    pub profile_policy: ProfilePolicy,
    /// The room version of new rooms that ask for none.
    pub default_room_version: String,
    /// Among which users the user directory searches.
    pub people_searched: ::rooms::find::Searched,
    /// Delayed events are offered.
    pub delayed_events: bool,
    /// The stable delayed events API is announced in `/versions`.
    pub delayed_events_stable: bool,
    /// A delayed event may be managed on the unstable paths by whoever knows its id, without a token.
    pub delayed_events_tokenless: bool,
    /// The longest delay, in milliseconds, for the capability.
    pub delayed_events_max_delay_ms: u64,
    /// How many delayed events a user may have scheduled, for the capability.
    pub delayed_events_max_scheduled: u64,
}

/// What every handler has.
#[derive(Clone, Debug)]
pub struct Api {
    /// Accounts and what belongs to them.
    pub users: users::Users,
    /// Rooms, for writing.
    pub rooms: ::rooms::Rooms,
    /// Rooms, for reading.
    pub reads: ::rooms::read::Reads,
    /// Searching; `None`: switched off.
    pub search: Option<::search::Search>,
    /// Delayed events.
    pub delayed: ::delayed_events::DelayedEvents,
    /// Durable work in the background.
    pub jobs: ::jobs::Jobs,
    /// Asks other servers; `None`: federation is switched off.
    pub remotes: Option<federation_client::FederationClient>,
    /// Configuration.
    pub options: Arc<Options>,
}

fn routes() -> routes::Routes {
    let mut routes = routes::Routes::default();
    discovery::routes(&mut routes);
    account::routes(&mut routes);
    admin::routes(&mut routes);
    devices::routes(&mut routes);
    keys::routes(&mut routes);
    profile::routes(&mut routes);
    push_rules::routes(&mut routes);
    filter::routes(&mut routes);
    notifications::routes(&mut routes);
    rooms::routes(&mut routes);
    find::routes(&mut routes);
    search::routes(&mut routes);
    delayed_events::routes(&mut routes);
    sync::routes(&mut routes);
    openid::routes(&mut routes);
    report::routes(&mut routes);
    rtc::routes(&mut routes);
    voip::routes(&mut routes);
    pages::routes(&mut routes);
    account_data::routes(&mut routes);
    room_keys::routes(&mut routes);
    dehydrated_device::routes(&mut routes);
    send_to_device::routes(&mut routes);
    tags::routes(&mut routes);
    presence::routes(&mut routes);
    old_sync::routes(&mut routes);
    routes
}

/// Everything under `/_matrix/client`, `/_matrix/static`, `/_synapse` and `/.well-known`, and `openid/userinfo` of the federation API, with CORS; any other path is 404 `M_UNRECOGNIZED`, a wrong method 405.
pub fn router(api: Api) -> Router {
    let methods =
        [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS];
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods(methods)
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            header::HeaderName::from_static("x-requested-with"),
        ])
        .max_age(std::time::Duration::from_hours(24));
    let inner = routes().finish().with_state(api).layer(CatchPanicLayer::custom(on_panic)).layer(cors);
    Router::new().fallback_service(tower::util::MapRequest::new(inner, normalise))
}

fn normalise<B>(mut request: Request<B>) -> Request<B> {
    if let Some(path_and_query) = request.uri().path_and_query() {
        let normal = routes::normal_path(path_and_query.as_str());
        if normal != path_and_query.as_str()
            && let Ok(uri) = normal.parse::<Uri>()
        {
            *request.uri_mut() = uri;
        }
    }
    request
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn on_panic(panic: Box<dyn std::any::Any + Send + 'static>) -> axum::response::Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    axum::response::IntoResponse::into_response(error::ApiError::internal(text.unwrap_or("a handler panicked")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_endpoint_that_must_be_built_is() {
        let routes = super::routes();
        let missing: Vec<_> =
            crate::endpoints::BUILT.iter().filter(|(method, path)| !routes.is_built(method, path)).collect();
        assert!(missing.is_empty(), "not built: {missing:?}");
    }
}
