//! The server-server API over HTTP. A handler authenticates, parses, calls and maps; no rule of a room and no table is known here.
//!
//! One endpoint, or one resource's methods, a file. [`error`] is the only place where errors become `errcode`s. The way in for what other servers
//! send is `rooms::Room::receive`.

mod backfill;
mod directory;
mod discovery;
pub mod endpoints;
pub mod error;
mod event;
mod event_auth;
mod event_relationships;
mod extract;
mod hierarchy;
mod inbound;
mod keys;
mod lists;
mod membership;
mod missing_events;
pub mod outbound;
mod query;
mod state;
mod timestamp;
mod user_devices;
mod user_keys;

use std::{fmt, sync::Arc};

use axum::{
    Router,
    routing::{get, post, put},
};
use federation_client::{FederationClient, KeyRing, OwnKeys};
use primitives::SharedClock;
use rooms::read::ServedPdu;
use serde_json::{Value, json};

pub use inbound::{Inbound, InboundLimits};

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
    /// The most events that `get_missing_events` gives.
    pub get_missing_events_max_events: usize,
    /// The most events that `backfill` gives.
    pub backfill_max_events: usize,
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
    /// What other servers send.
    pub inbound: Inbound,
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

    /// Events as the answers hold them that have the form of a transaction.
    fn transaction(&self, pdus: &[ServedPdu]) -> Value {
        json!({ "origin": self.keys().server_name(), "origin_server_ts": self.clock.now().0, "pdus": pdus })
    }

    /// Where the keys come from that events are signed with.
    fn remote(&self) -> rooms::Remote {
        rooms::Remote { client: self.client.clone(), ring: self.ring.clone() }
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
        .route("/_matrix/federation/v1/backfill/{roomId}", get(backfill::backfill))
        .route("/_matrix/federation/v1/event/{eventId}", get(event::event))
        .route("/_matrix/federation/v1/event_auth/{roomId}/{eventId}", get(event_auth::event_auth))
        .route("/_matrix/federation/unstable/event_relationships", post(event_relationships::event_relationships))
        .route("/_matrix/federation/v1/get_missing_events/{roomId}", post(missing_events::missing_events))
        .route("/_matrix/federation/v1/state/{roomId}", get(state::whole))
        .route("/_matrix/federation/v1/state_ids/{roomId}", get(state::ids))
        .route("/_matrix/federation/v1/timestamp_to_event/{roomId}", get(timestamp::timestamp_to_event))
        .route("/_matrix/federation/v1/version", get(discovery::version))
        .route("/_matrix/federation/v1/hierarchy/{roomId}", get(hierarchy::hierarchy))
        .route("/_matrix/federation/v1/publicRooms", get(directory::published).post(directory::searched))
        .route("/_matrix/federation/v1/query/directory", get(directory::alias))
        .route("/_matrix/federation/v1/query/profile", get(query::profile))
        .route("/_matrix/federation/v1/send/{txnId}", put(inbound::transaction::send))
        .route("/_matrix/federation/v1/user/devices/{userId}", get(user_devices::user_devices))
        .route("/_matrix/federation/v1/user/keys/claim", post(user_keys::claim))
        .route("/_matrix/federation/v1/user/keys/query", post(user_keys::query))
        .route("/_matrix/key/v2/query", post(keys::query_many))
        .route("/_matrix/key/v2/query/{serverName}", get(keys::query_one))
        .route("/_matrix/key/v2/server", get(keys::server))
        .route("/_matrix/federation/v1/make_join/{roomId}/{userId}", get(membership::make::join))
        .route("/_matrix/federation/v1/make_knock/{roomId}/{userId}", get(membership::make::knock))
        .route("/_matrix/federation/v1/make_leave/{roomId}/{userId}", get(membership::make::leave))
        .route("/_matrix/federation/v1/send_join/{roomId}/{eventId}", put(membership::send_join::v1))
        .route("/_matrix/federation/v2/send_join/{roomId}/{eventId}", put(membership::send_join::v2))
        .route(
            "/_matrix/federation/v1/exchange_third_party_invite/{roomId}",
            put(membership::exchange_third_party_invite::exchange),
        )
        .route("/_matrix/federation/v1/invite/{roomId}/{eventId}", put(membership::invite::v1))
        .route("/_matrix/federation/v2/invite/{roomId}/{eventId}", put(membership::invite::v2))
        .route("/_matrix/federation/v1/send_knock/{roomId}/{eventId}", put(membership::send_knock::send_knock))
        .route("/_matrix/federation/v1/send_leave/{roomId}/{eventId}", put(membership::send_leave::v1))
        .route("/_matrix/federation/v2/send_leave/{roomId}/{eventId}", put(membership::send_leave::v2))
        .method_not_allowed_fallback(async || error::ApiError::method_not_allowed())
}
