//! The method and path of every endpoint that this crate serves. Those of the federation API that aren't built yet are in the client API's
//! table, which answers 404 for them; `openid/userinfo` is served there.

/// The endpoints, as the specification writes them.
pub const BUILT: &[(&str, &str)] = &[
    ("GET", "/.well-known/matrix/server"),
    ("GET", "/_matrix/federation/v1/backfill/{roomId}"),
    ("GET", "/_matrix/federation/v1/event/{eventId}"),
    ("GET", "/_matrix/federation/v1/event_auth/{roomId}/{eventId}"),
    ("POST", "/_matrix/federation/v1/get_missing_events/{roomId}"),
    ("GET", "/_matrix/federation/v1/make_join/{roomId}/{userId}"),
    ("GET", "/_matrix/federation/v1/make_knock/{roomId}/{userId}"),
    ("GET", "/_matrix/federation/v1/make_leave/{roomId}/{userId}"),
    ("GET", "/_matrix/federation/v1/publicRooms"),
    ("POST", "/_matrix/federation/v1/publicRooms"),
    ("GET", "/_matrix/federation/v1/query/directory"),
    ("GET", "/_matrix/federation/v1/query/profile"),
    ("PUT", "/_matrix/federation/v1/send_join/{roomId}/{eventId}"),
    ("PUT", "/_matrix/federation/v1/send_leave/{roomId}/{eventId}"),
    ("GET", "/_matrix/federation/v1/state/{roomId}"),
    ("GET", "/_matrix/federation/v1/state_ids/{roomId}"),
    ("GET", "/_matrix/federation/v1/timestamp_to_event/{roomId}"),
    ("GET", "/_matrix/federation/v1/version"),
    ("PUT", "/_matrix/federation/v1/send/{txnId}"),
    ("PUT", "/_matrix/federation/v2/send_join/{roomId}/{eventId}"),
    ("PUT", "/_matrix/federation/v2/send_leave/{roomId}/{eventId}"),
    ("GET", "/_matrix/federation/v1/user/devices/{userId}"),
    ("POST", "/_matrix/federation/v1/user/keys/claim"),
    ("POST", "/_matrix/federation/v1/user/keys/query"),
    ("POST", "/_matrix/key/v2/query"),
    ("GET", "/_matrix/key/v2/query/{serverName}"),
    ("GET", "/_matrix/key/v2/server"),
];
