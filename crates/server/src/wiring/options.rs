//! From the configuration to the options of each crate.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use delayed_events::NewerState;
use rooms::{RoomVersion, find::Searched};
use serde_json::{Map, Value};

use crate::config::{CancelOnNewerState, Config, Contact, Durability, MayPublish, RegistrationMode};

/// The longest that a sync waits, whatever its `timeout` says: proxies cut off what is silent for much longer.
const SYNC_TIMEOUT_MAX_MS: u64 = 60_000;

/// Where the store is, inside the data directory.
const STORE: &str = "store";

/// The directory of the store.
pub fn storage_directory(config: &Config) -> PathBuf {
    config.data_dir.join(STORE)
}

/// The store's.
pub fn storage(config: &Config) -> storage::Options {
    storage::Options {
        durability: match config.storage.durability {
            Durability::Sync => storage::Durability::Sync,
            Durability::Os => storage::Durability::Os,
        },
        memory_budget_bytes: usize::try_from(config.storage.memory_budget.0).unwrap_or(usize::MAX),
        ..storage::Options::directory(storage_directory(config), config.server_name.as_str())
    }
}

/// The file of the search index.
pub fn search_file(config: &Config) -> PathBuf {
    config.data_dir.join("search").join("index.sqlite")
}

/// Those of the search.
pub fn search(config: &Config) -> search::Options {
    search::Options { file: Some(search_file(config)), memory_bytes: config.search.memory_budget.0 }
}

/// Those of the accounts.
pub fn users(config: &Config) -> users::Options {
    let (registration, limits) = (&config.registration, &config.limits);
    users::Options {
        registration: match registration.mode {
            RegistrationMode::Closed => users::RegistrationMode::Closed,
            RegistrationMode::Token => users::RegistrationMode::Token,
            RegistrationMode::Open => users::RegistrationMode::Open,
        },
        shared_secret: registration.shared_secret.clone(),
        allow_guests: registration.allow_guests,
        limits: rates(config),
        profile_sizes: users::ProfileSizes {
            display_name_max_bytes: limits.display_name_max_bytes as usize,
            avatar_url_max_bytes: limits.avatar_url_max_bytes as usize,
        },
        push_rules_max: if limits.enforce { limits.push_rules_per_user as usize } else { usize::MAX },
        report_sizes: users::ReportSizes {
            reason_max_bytes: limits.report_reason_max_bytes as usize,
            waiting_max_per_user: limits.reports_waiting_per_user,
        },
        turn: turn(config),
        to_device_sizes: to_device(config),
        key_backup_sizes: key_backup(config),
        account_data_sizes: users::AccountDataSizes {
            max_bytes: limits.account_data_max_bytes as usize,
            max_types: limits.account_data_max_types as usize,
        },
        key_limits: users::KeyLimits {
            key_max_bytes: limits.key_max_bytes as usize,
            one_time_keys_max: if limits.enforce { limits.one_time_keys_per_device_and_algorithm } else { u32::MAX },
            query_max_users: limits.key_query_max_users as usize,
            claim_max_devices: limits.key_claim_max_devices as usize,
            remote_timeout: Duration::from_secs(limits.key_remote_timeout_seconds.into()),
            remote_devices_max: limits.remote_devices_per_user as usize,
        },
        device_names_for_servers: config.federation.device_names,
        presence: config.presence,
        password_hash: users::PasswordHashCost {
            memory_kib: limits.password_hash_memory_kib,
            iterations: limits.password_hash_passes,
            at_once: limits.password_hash_concurrent as usize,
            ..users::PasswordHashCost::default()
        },
        ..users::Options::new(config.server_name.clone())
    }
}

/// Sizes of to-device messages; their number in a queue and their age are bounds whether rates are enforced or not.
fn to_device(config: &Config) -> users::ToDeviceSizes {
    let limits = &config.limits;
    users::ToDeviceSizes {
        message_max_bytes: limits.to_device_message_max_bytes as usize,
        devices_per_request: if limits.enforce { limits.to_device_devices_per_request as usize } else { usize::MAX },
        queue_max_messages: limits.to_device_queue_max_messages as usize,
        queue_max_age: Duration::from_hours(24 * u64::from(limits.to_device_queue_max_days)),
    }
}

/// Sizes of key backups.
fn key_backup(config: &Config) -> users::KeyBackupSizes {
    let limits = &config.limits;
    users::KeyBackupSizes {
        item_max_bytes: limits.key_backup_item_max_bytes as usize,
        max_keys: if limits.enforce { limits.key_backup_max_keys.into() } else { u64::MAX },
        backups_per_user: if limits.enforce { limits.key_backups_per_user } else { u32::MAX },
    }
}

/// Those of the federation API.
pub fn federation(config: &Config) -> federation::Options {
    federation::Options {
        server_address: config.federation.server_address.as_ref().map(ToString::to_string),
        version: env!("CARGO_PKG_VERSION"),
        request_max_bytes: bytes(config.limits.federation_request_max_bytes),
        profiles_shown: !config.profiles.limit_profile_requests_to_users_who_share_rooms,
        get_missing_events_max_events: config.limits.get_missing_events_max_events as usize,
        backfill_max_events: config.limits.backfill_max_events as usize,
    }
}

/// Those of other servers' transactions.
pub fn inbound(config: &Config) -> federation::InboundLimits {
    let (limits, count) = (&config.limits, |number: u32| usize::try_from(number).unwrap_or(usize::MAX));
    federation::InboundLimits {
        transaction_max_pdus: count(limits.transaction_max_pdus),
        transaction_max_edus: count(limits.transaction_max_edus),
        concurrent_per_origin: count(limits.federation_inbound_concurrent_per_origin),
        queued_per_origin: count(limits.federation_inbound_queued_per_origin),
        queued_max_bytes: bytes(limits.federation_inbound_queued_max_bytes),
    }
}

/// Those of sending to other servers.
pub fn outbound(config: &Config) -> federation::outbound::OutboundOptions {
    let limits = &config.limits;
    federation::outbound::OutboundOptions {
        transaction_max_pdus: limits.transaction_max_pdus as usize,
        transaction_max_edus: limits.transaction_max_edus as usize,
        queue_max_pdus: limits.federation_outbound_queue_max_pdus as usize,
        queue_max_edus: limits.federation_outbound_queue_max_edus as usize,
        concurrent: limits.federation_outbound_concurrent as usize,
    }
}

/// Those of requests to other servers.
pub fn federation_client(config: &Config) -> federation_client::ClientOptions {
    let limits = &config.limits;
    federation_client::ClientOptions {
        answer_max_bytes: bytes(limits.federation_response_max_bytes),
        timeout: Duration::from_secs(limits.federation_timeout_seconds),
        state_answer_max_bytes: bytes(limits.federation_state_response_max_bytes),
        join_timeout: Duration::from_secs(limits.federation_join_timeout_seconds),
        pauses: federation_client::Pauses {
            min: Duration::from_secs(limits.federation_backoff_min_seconds),
            max: Duration::from_secs(limits.federation_backoff_max_seconds),
        },
    }
}

/// Those of the network.
pub fn network(config: &Config) -> federation_client::NetworkOptions {
    federation_client::NetworkOptions {
        extra_ca_certificates: config.federation.extra_ca_certificates.clone(),
        allow_private_addresses: config.federation.allow_private_addresses,
        well_known_max_bytes: bytes(config.limits.well_known_max_bytes),
        user_agent: concat!("Sundial/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

fn bytes(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// The TURN service. None without URIs.
fn turn(config: &Config) -> Option<users::Turn> {
    let turn = &config.turn;
    let access = match (&turn.shared_secret, &turn.username, &turn.password) {
        (Some(secret), ..) => users::TurnAccess::SharedSecret(secret.clone()),
        (None, Some(username), Some(password)) => {
            users::TurnAccess::Fixed { username: username.clone(), password: password.clone() }
        }
        _ => return None,
    };
    let (lifetime, allow_guests) = (turn.user_lifetime.0, turn.allow_guests);
    (!turn.uris.is_empty()).then(|| users::Turn { uris: turn.uris.clone(), access, lifetime, allow_guests })
}

fn rates(config: &Config) -> users::Limits {
    use users::Rate;
    let limits = &config.limits;
    users::Limits {
        enforce: limits.enforce,
        messages_per_user: Rate::new(limits.messages_per_user_per_second, limits.messages_per_user_burst),
        logins_per_address: Rate::new(limits.logins_per_address_per_second, limits.logins_per_address_burst),
        logins_per_account: Rate::new(limits.logins_per_account_per_second, limits.logins_per_account_burst),
        failed_logins_per_account: Rate::new(
            limits.login_failures_per_account_per_second,
            limits.login_failures_per_account_burst,
        ),
        registrations_per_address: Rate::new(
            limits.registrations_per_address_per_second,
            limits.registrations_per_address_burst,
        ),
        local_joins_per_user: Rate::new(limits.local_joins_per_user_per_second, limits.local_joins_per_user_burst),
        remote_joins_per_user: Rate::new(limits.remote_joins_per_user_per_second, limits.remote_joins_per_user_burst),
        joins_per_room: Rate::new(limits.joins_per_room_per_second, limits.joins_per_room_burst),
        remote_invites_per_user: Rate::new(
            limits.remote_invites_per_user_per_second,
            limits.remote_invites_per_user_burst,
        ),
        reports_per_user: Rate::new(limits.reports_per_user_per_second, limits.reports_per_user_burst),
        openid_tokens_per_user: Rate::new(
            limits.openid_tokens_per_user_per_second,
            limits.openid_tokens_per_user_burst,
        ),
        updates_per_user: Rate::new(limits.updates_per_user_per_second, limits.updates_per_user_burst),
    }
}

/// Those of the rooms.
pub fn rooms(config: &Config) -> anyhow::Result<rooms::Options> {
    let version = config.default_room_version.as_str();
    let default_room_version = RoomVersion::parse(version).with_context(|| format!("room version {version}"))?;
    let may_publish = match config.directory.may_publish {
        MayPublish::Members => rooms::find::MayPublish::Members,
        MayPublish::Admins => rooms::find::MayPublish::Admins,
        MayPublish::Nobody => rooms::find::MayPublish::Nobody,
    };
    let pdu_max_bytes = config.limits.pdu_max_bytes as usize;
    let missing_events_max = config.limits.get_missing_events_max_events;
    let backfill_max = config.limits.backfill_max_events;
    let options = rooms::Options::new(config.server_name.clone());
    Ok(rooms::Options {
        default_room_version,
        pdu_max_bytes,
        missing_events_max,
        backfill_max,
        partial_state_joins: config.federation.partial_state_joins,
        may_publish,
        ..options
    })
}

/// Those of delayed events.
pub fn delayed_events(config: &Config) -> delayed_events::Options {
    use delayed_events::Rate;
    let section = &config.delayed_events;
    delayed_events::Options {
        enabled: section.enabled,
        max_delay: section.max_delay.0,
        max_scheduled_per_user: section.max_scheduled_per_user,
        schedules: Rate::new(section.schedules_per_user_per_second, section.schedules_per_user_burst),
        restarts_per_event: Rate::new(section.restarts_per_id_per_second, section.restarts_per_id_burst),
        restarts_per_user: Rate::new(section.restarts_per_user_per_second, section.restarts_per_user_burst),
        enforce: config.limits.enforce,
        newer_state: match section.cancel_on_newer_state {
            CancelOnNewerState::Never => NewerState::Ignored,
            CancelOnNewerState::OtherSender => NewerState::OtherSenderCancels,
            CancelOnNewerState::Any => NewerState::Cancels,
        },
        duplicate_window: section.duplicate_window.0,
        finalised_kept: section.finalised_retention.0,
        finalised_kept_per_user: section.finalised_max_per_user as usize,
    }
}

/// Those of jobs.
pub fn jobs(config: &Config) -> jobs::Options {
    let section = &config.jobs;
    jobs::Options {
        concurrent: section.concurrent as usize,
        concurrent_per_kind: section.concurrent_per_kind as usize,
        failures_max: section.failures_max,
        profile_events_per_second: section.profile_events_per_second,
        ..jobs::Options::default()
    }
}

/// Those of the client API.
pub fn client_api(config: &Config) -> client_api::Options {
    let (limits, delayed) = (&config.limits, &config.delayed_events);
    client_api::Options {
        body_max_bytes: usize::try_from(limits.client_body_max_bytes).unwrap_or(usize::MAX),
        keys_body_max_bytes: usize::try_from(limits.client_keys_body_max_bytes).unwrap_or(usize::MAX),
        json_max_depth: limits.json_max_depth as usize,
        sync_timeout_max_ms: SYNC_TIMEOUT_MAX_MS,
        public_base_url: config.public_base_url.as_ref().map(|url| url.trim_end_matches('/').to_owned()),
        support: support_document(config),
        rtc_transports: config.rtc.transports.iter().cloned().map(Value::Object).collect(),
        profile_policy: profile_policy(config),
        default_room_version: config.default_room_version.clone(),
        people_searched: if config.directory.search_all_users { Searched::Everybody } else { Searched::MayMeet },
        delayed_events: delayed.enabled && delayed.max_scheduled_per_user > 0,
        delayed_events_stable: delayed.stable,
        delayed_events_tokenless: delayed.tokenless_unstable,
        delayed_events_max_delay_ms: u64::try_from(delayed.max_delay.0.as_millis()).unwrap_or(u64::MAX),
        delayed_events_max_scheduled: delayed.max_scheduled_per_user.into(),
    }
}

/// Whom profiles are shown to.
fn profile_policy(config: &Config) -> client_api::ProfilePolicy {
    if config.profiles.limit_profile_requests_to_users_who_share_rooms {
        client_api::ProfilePolicy::SharedRooms
    } else if config.profiles.require_auth_for_profile_requests {
        client_api::ProfilePolicy::LoggedIn
    } else {
        client_api::ProfilePolicy::Everybody
    }
}

/// The body of `/.well-known/matrix/support` (client-server API, same path). None without page and contacts.
fn support_document(config: &Config) -> Option<Value> {
    let support = &config.support;
    let mut document = Map::new();
    if !support.contacts.is_empty() {
        document.insert("contacts".to_owned(), support.contacts.iter().map(contact).collect());
    }
    if let Some(page) = &support.page {
        document.insert("support_page".to_owned(), page.clone().into());
    }
    (!document.is_empty()).then_some(Value::Object(document))
}

fn contact(contact: &Contact) -> Value {
    let ways = [("matrix_id", &contact.matrix_id), ("email_address", &contact.email_address)];
    let ways = ways.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into())));
    std::iter::once(("role".to_owned(), contact.role.clone().into())).chain(ways).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Config {
        Config::parse(&format!("server_name = \"hs.test\"\ndata_dir = \"d\"\n{more}"), []).expect("valid")
    }

    #[test]
    fn the_support_document_says_what_is_configured() {
        assert_eq!(support_document(&config("")), None);
        let contact = "[[support.contacts]]\nrole = \"m.role.admin\"\nmatrix_id = \"@a:hs.test\"";
        let document = support_document(&config(contact)).expect("a contact").to_string();
        assert_eq!(document, r#"{"contacts":[{"matrix_id":"@a:hs.test","role":"m.role.admin"}]}"#);
        let document =
            support_document(&config("[support]\npage = \"https://hs.test/help\"")).expect("a page").to_string();
        assert_eq!(document, r#"{"support_page":"https://hs.test/help"}"#);
    }

    #[test]
    fn a_turn_service_needs_uris_and_one_way_in() {
        assert_eq!(turn(&config("")), None);
        assert_eq!(turn(&config("[turn]\nshared_secret = \"s\"")), None, "without uris there is none");
        let secret = turn(&config("[turn]\nuris = [\"turn:t\"]\nshared_secret = \"s\"")).expect("a service");
        assert_eq!(secret.access, users::TurnAccess::SharedSecret("s".to_owned()));
        let fixed =
            turn(&config("[turn]\nuris = [\"turn:t\"]\nusername = \"u\"\npassword = \"p\"")).expect("a service");
        assert_eq!(fixed.access, users::TurnAccess::Fixed { username: "u".to_owned(), password: "p".to_owned() });
    }

    #[test]
    fn the_stricter_rule_for_profiles_counts() {
        use client_api::ProfilePolicy::{Everybody, LoggedIn, SharedRooms};
        let policy = |more: &str| profile_policy(&config(&format!("[profiles]\n{more}")));
        assert_eq!(policy(""), Everybody);
        assert_eq!(policy("require_auth_for_profile_requests = true"), LoggedIn);
        assert_eq!(policy("limit_profile_requests_to_users_who_share_rooms = true"), SharedRooms);
    }

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_crates() {
        let config = config("");
        let users = users(&config);
        assert_eq!(format!("{users:?}"), format!("{:?}", users::Options::new(config.server_name.clone())));
        let delayed = delayed_events(&config);
        assert_eq!(format!("{delayed:?}"), format!("{:?}", delayed_events::Options::default()));
        let rooms = rooms(&config).expect("a version");
        assert_eq!(format!("{rooms:?}"), format!("{:?}", rooms::Options::new(config.server_name.clone())));
        assert_eq!(jobs(&config), jobs::Options::default());
        assert_eq!(outbound(&config), federation::outbound::OutboundOptions::default());
    }
}
