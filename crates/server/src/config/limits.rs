//! `[limits]`: every limit under a name that says what and in which unit. Those of delayed events are in `[delayed_events]`.

use serde::{Deserialize, Serialize};

/// Sizes, depths, time-outs, rates and counts. A rate `…_per_second` comes with its `…_burst`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `false` switches off rates and counts, never sizes, depths or time-outs.
    pub enforce: bool,
    /// Largest event that local users may send, in bytes of canonical JSON. The specification's own limit; can only be lowered.
    pub pdu_max_bytes: u32,
    /// PDUs in one federation transaction, in and out.
    pub transaction_max_pdus: u32,
    /// EDUs in one federation transaction, in and out.
    pub transaction_max_edus: u32,
    /// Largest body of a federation request.
    pub federation_request_max_bytes: u64,
    /// Largest body of another server's response.
    pub federation_response_max_bytes: u64,
    /// Largest body of another server's `send_join` and `state` response; these are streamed.
    pub federation_state_response_max_bytes: u64,
    /// Longest wait for another server.
    pub federation_timeout_seconds: u64,
    /// Longest wait for another server to answer a join.
    pub federation_join_timeout_seconds: u64,
    /// First pause after another server failed; doubles, with jitter, and ends at its next request to us.
    pub federation_backoff_min_seconds: u64,
    /// Longest such pause.
    pub federation_backoff_max_seconds: u64,
    /// Transactions of one server worked on at once.
    pub federation_inbound_concurrent_per_origin: u32,
    /// Requests of one server waiting; more are refused with 429.
    pub federation_inbound_queued_per_origin: u32,
    /// Bytes of all servers' requests under way and waiting; more are refused with 429.
    pub federation_inbound_queued_max_bytes: u64,
    /// Events that wait in memory for one other server; beyond that it gets only the newest of each room.
    pub federation_outbound_queue_max_pdus: u32,
    /// Typing, receipts and presence that wait in memory for one other server; beyond that they are dropped.
    pub federation_outbound_queue_max_edus: u32,
    /// Other servers that are sent to at once.
    pub federation_outbound_concurrent: u32,
    /// Events asked for and given by `get_missing_events`.
    pub get_missing_events_max_events: u32,
    /// Events asked for and given by `backfill`.
    pub backfill_max_events: u32,
    /// Largest `.well-known` document of another server.
    pub well_known_max_bytes: u64,
    /// Largest JSON body of a client's request.
    pub client_body_max_bytes: u64,
    /// The same for key uploads and key backups.
    pub client_keys_body_max_bytes: u64,
    /// Deepest nesting of arrays and objects in JSON.
    pub json_max_depth: u32,
    /// All headers of a request together.
    pub headers_max_bytes: u32,
    /// Number of headers of a request.
    pub headers_max_count: u32,
    /// Time to send the headers of a request.
    pub header_timeout_seconds: u64,
    /// Longest pause inside the body of a request.
    pub body_timeout_seconds: u64,
    /// Time that a connection may stay open without a request.
    pub idle_timeout_seconds: u64,
    /// Joins of a user through other servers.
    pub remote_joins_per_user_per_second: f64,
    /// Such joins at once.
    pub remote_joins_per_user_burst: u32,
    /// Joins of a user to rooms that this server is in.
    pub local_joins_per_user_per_second: f64,
    /// Such joins at once.
    pub local_joins_per_user_burst: u32,
    /// Joins to one room.
    pub joins_per_room_per_second: f64,
    /// Such joins at once.
    pub joins_per_room_burst: u32,
    /// Invites of one user that other servers send.
    pub remote_invites_per_user_per_second: f64,
    /// Such invites at once.
    pub remote_invites_per_user_burst: u32,
    /// Events sent by a user.
    pub messages_per_user_per_second: f64,
    /// Events sent by a user at once.
    pub messages_per_user_burst: u32,
    /// Receipts, typing notifications and presence sent by a user.
    pub updates_per_user_per_second: f64,
    /// The same at once.
    pub updates_per_user_burst: u32,
    /// Logins from one address.
    pub logins_per_address_per_second: f64,
    /// Such logins at once.
    pub logins_per_address_burst: u32,
    /// Logins to one account.
    pub logins_per_account_per_second: f64,
    /// Such logins at once.
    pub logins_per_account_burst: u32,
    /// Failed logins to one account.
    pub login_failures_per_account_per_second: f64,
    /// Such failures at once.
    pub login_failures_per_account_burst: u32,
    /// Registrations from one address.
    pub registrations_per_address_per_second: f64,
    /// Such registrations at once.
    pub registrations_per_address_burst: u32,
    /// Reports made by a user.
    pub reports_per_user_per_second: f64,
    /// Such reports at once.
    pub reports_per_user_burst: u32,
    /// Reports of one user that wait for an administrator.
    pub reports_waiting_per_user: u32,
    /// Longest reason of a report.
    pub report_reason_max_bytes: u32,
    /// `OpenID` tokens asked for by a user.
    pub openid_tokens_per_user_per_second: f64,
    /// Such tokens at once.
    pub openid_tokens_per_user_burst: u32,
    /// Memory of one Argon2id hash, in KiB. Higher is safer and slower.
    pub password_hash_memory_kib: u32,
    /// Passes over that memory.
    pub password_hash_passes: u32,
    /// Passwords hashed at once; further requests wait.
    pub password_hash_concurrent: u32,
    /// Longest display name.
    pub display_name_max_bytes: u32,
    /// Longest avatar URL.
    pub avatar_url_max_bytes: u32,
    /// Largest content of one type of account data, in bytes of JSON.
    pub account_data_max_bytes: u32,
    /// Types of account data of a user in one room, and outside rooms.
    pub account_data_max_types: u32,
    /// Push rules of a user's own.
    pub push_rules_per_user: u32,
    /// Largest to-device message.
    pub to_device_message_max_bytes: u32,
    /// Devices that one request may send to-device messages to.
    pub to_device_devices_per_request: u32,
    /// To-device messages waiting for one device.
    pub to_device_queue_max_messages: u32,
    /// How long a to-device message waits.
    pub to_device_queue_max_days: u32,
    /// Largest encrypted key in a backup, largest `auth_data` of a backup, and largest dehydrated device.
    pub key_backup_item_max_bytes: u32,
    /// Keys in one backup.
    pub key_backup_max_keys: u32,
    /// Backups of one user that are kept.
    pub key_backups_per_user: u32,
    /// One-time keys kept for a device and algorithm.
    pub one_time_keys_per_device_and_algorithm: u32,
    /// Largest device key, one-time key or cross-signing key, in bytes of JSON.
    pub key_max_bytes: u32,
    /// Users whose keys one request asks for.
    pub key_query_max_users: u32,
    /// Devices that are kept of a user of another server.
    pub remote_devices_per_user: u32,
    /// The longest that a client's request for keys waits for other servers.
    pub key_remote_timeout_seconds: u32,
    /// Devices of which one request claims keys.
    pub key_claim_max_devices: u32,
    /// Largest upload.
    pub upload_max_bytes: u64,
    /// Uploads announced by a user and not sent yet.
    pub uploads_pending_per_user: u32,
    /// How long an announced upload may take.
    pub uploads_pending_seconds: u64,
    /// Largest image that is decoded for a thumbnail.
    pub image_max_pixels: u64,
    /// Images decoded at once.
    pub image_decoders_concurrent: u32,
    /// Media fetched from other servers, per requesting user.
    pub remote_media_bytes_per_second: u64,
    /// The same at once.
    pub remote_media_burst_bytes: u64,
    /// Media of other servers kept on disk.
    pub remote_media_cache_max_bytes: u64,
    /// Largest page fetched for a URL preview.
    pub url_preview_max_bytes: u64,
    /// Redirects followed for a URL preview.
    pub url_preview_max_redirects: u32,
}

/// The values that hold unless the configuration says otherwise.
const DEFAULTS: Limits = Limits {
    enforce: true,
    pdu_max_bytes: 65_536,
    transaction_max_pdus: 50,
    transaction_max_edus: 100,
    federation_request_max_bytes: 13_107_200,
    federation_response_max_bytes: 32 << 20,
    federation_state_response_max_bytes: 200 << 20,
    federation_timeout_seconds: 30,
    federation_join_timeout_seconds: 120,
    federation_backoff_min_seconds: 60,
    federation_backoff_max_seconds: 86_400,
    federation_inbound_concurrent_per_origin: 3,
    federation_inbound_queued_per_origin: 50,
    federation_inbound_queued_max_bytes: 256 << 20,
    federation_outbound_queue_max_pdus: 500,
    federation_outbound_queue_max_edus: 1_000,
    federation_outbound_concurrent: 100,
    get_missing_events_max_events: 20,
    backfill_max_events: 100,
    well_known_max_bytes: 50 << 10,
    client_body_max_bytes: 1 << 20,
    client_keys_body_max_bytes: 8 << 20,
    json_max_depth: 100,
    headers_max_bytes: 16 << 10,
    headers_max_count: 100,
    header_timeout_seconds: 10,
    body_timeout_seconds: 60,
    idle_timeout_seconds: 75,
    remote_joins_per_user_per_second: 0.01,
    remote_joins_per_user_burst: 10,
    local_joins_per_user_per_second: 0.1,
    local_joins_per_user_burst: 10,
    joins_per_room_per_second: 1.0,
    joins_per_room_burst: 10,
    remote_invites_per_user_per_second: 0.1,
    remote_invites_per_user_burst: 50,
    messages_per_user_per_second: 5.0,
    messages_per_user_burst: 50,
    updates_per_user_per_second: 10.0,
    updates_per_user_burst: 100,
    logins_per_address_per_second: 0.003,
    logins_per_address_burst: 5,
    logins_per_account_per_second: 0.003,
    logins_per_account_burst: 5,
    login_failures_per_account_per_second: 0.17,
    login_failures_per_account_burst: 3,
    registrations_per_address_per_second: 0.17,
    registrations_per_address_burst: 3,
    reports_per_user_per_second: 0.1,
    reports_per_user_burst: 10,
    reports_waiting_per_user: 1_000,
    report_reason_max_bytes: 4_000,
    openid_tokens_per_user_per_second: 0.5,
    openid_tokens_per_user_burst: 20,
    password_hash_memory_kib: 19 << 10,
    password_hash_passes: 2,
    password_hash_concurrent: 2,
    display_name_max_bytes: 256,
    avatar_url_max_bytes: 1_000,
    account_data_max_bytes: 64 << 10,
    account_data_max_types: 1_000,
    push_rules_per_user: 1_000,
    to_device_message_max_bytes: 64 << 10,
    to_device_devices_per_request: 10_000,
    to_device_queue_max_messages: 10_000,
    to_device_queue_max_days: 30,
    key_backup_item_max_bytes: 64 << 10,
    key_backup_max_keys: 500_000,
    key_backups_per_user: 100,
    one_time_keys_per_device_and_algorithm: 500,
    key_max_bytes: 8_192,
    key_query_max_users: 10_000,
    remote_devices_per_user: 1_000,
    key_remote_timeout_seconds: 10,
    key_claim_max_devices: 10_000,
    upload_max_bytes: 50 << 20,
    uploads_pending_per_user: 5,
    uploads_pending_seconds: 86_400,
    image_max_pixels: 32_000_000,
    image_decoders_concurrent: 2,
    remote_media_bytes_per_second: 87 << 10,
    remote_media_burst_bytes: 500_000_000,
    remote_media_cache_max_bytes: 10 << 30,
    url_preview_max_bytes: 1 << 20,
    url_preview_max_redirects: 5,
};

impl Default for Limits {
    fn default() -> Self {
        DEFAULTS
    }
}
