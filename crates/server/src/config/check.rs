//! What the types of the configuration can't say: which values are allowed.

use ruma::RoomVersionId;
use tracing_subscriber::EnvFilter;

use super::{Config, Contact, Jobs, Limits};

/// A key with a bad value.
#[derive(Debug)]
pub(super) struct Problem {
    /// The key, as in `listeners.0.tls`.
    pub(super) key: String,
    /// What is wrong.
    pub(super) reason: String,
}

fn problem(key: impl Into<String>, reason: impl Into<String>) -> Problem {
    Problem { key: key.into(), reason: reason.into() }
}

/// The first value that is not allowed.
pub(super) fn check(config: &Config) -> Result<(), Problem> {
    check_names(config)?;
    check_listeners(config)?;
    check_support(config)?;
    check_turn(config)?;
    check_transports(config)?;
    if config.registration.shared_secret.as_ref().is_some_and(String::is_empty) {
        return Err(problem("registration.shared_secret", "must not be empty; leave it out to switch it off"));
    }
    if let Err(text) = config.federation.denied() {
        return Err(problem("federation.denied_keys", format!("{text:?} is no ed25519 key in base64")));
    }
    if config.storage.memory_budget.0 < 16 << 20 {
        return Err(problem("storage.memory_budget", "must be at least 16MiB"));
    }
    if config.search.memory_budget.0 < 1 << 20 {
        return Err(problem("search.memory_budget", "must be at least 1MiB"));
    }
    EnvFilter::try_new(&config.log.filter).map_err(|error| problem("log.filter", error.to_string()))?;
    check_jobs(&config.jobs)?;
    check_rates(config)?;
    check_limits(&config.limits)
}

fn check_names(config: &Config) -> Result<(), Problem> {
    // Longest name that leaves room for a local part in a user id of 255 bytes.
    if config.server_name.as_str().len() > 230 {
        return Err(problem("server_name", "must be at most 230 bytes long"));
    }
    if config.data_dir.as_os_str().is_empty() {
        return Err(problem("data_dir", "must not be empty"));
    }
    let version = RoomVersionId::try_from(config.default_room_version.as_str());
    let known = version.is_ok_and(|version| (1..=12).any(|number| version.as_str() == number.to_string()));
    if !known {
        return Err(problem("default_room_version", "must be one of \"1\" to \"12\""));
    }
    if let Some(url) = &config.public_base_url {
        check_url(url).map_err(|reason| problem("public_base_url", reason))?;
    }
    Ok(())
}

fn check_url(url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err("must be an http or https URL".to_owned());
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("must have neither query nor fragment".to_owned());
    }
    Ok(())
}

fn check_listeners(config: &Config) -> Result<(), Problem> {
    if config.listeners.is_empty() {
        return Err(problem("listeners", "must have at least one entry"));
    }
    for (index, listener) in config.listeners.iter().enumerate() {
        let twice =
            config.listeners[..index].iter().any(|other| other.bind == listener.bind && listener.bind.port() != 0);
        if twice {
            return Err(problem(format!("listeners.{index}.bind"), "is bound by an earlier listener"));
        }
    }
    Ok(())
}

fn check_support(config: &Config) -> Result<(), Problem> {
    if let Some(page) = &config.support.page {
        check_url(page).map_err(|reason| problem("support.page", reason))?;
    }
    for (index, Contact { role, matrix_id, email_address }) in config.support.contacts.iter().enumerate() {
        let key = format!("support.contacts.{index}");
        if role.is_empty() {
            return Err(problem(format!("{key}.role"), "must not be empty"));
        }
        if matrix_id.is_none() && email_address.is_none() {
            return Err(problem(key, "needs a matrix_id or an email_address"));
        }
        if let Some(id) = matrix_id {
            ruma::UserId::parse(id).map_err(|error| problem(format!("{key}.matrix_id"), error.to_string()))?;
        }
    }
    Ok(())
}

fn check_turn(config: &Config) -> Result<(), Problem> {
    let turn = &config.turn;
    for (index, uri) in turn.uris.iter().enumerate() {
        if !["turn:", "turns:", "stun:", "stuns:"].iter().any(|scheme| uri.starts_with(scheme)) {
            return Err(problem(format!("turn.uris.{index}"), "must start with turn: or turns:"));
        }
    }
    let secrets = [("shared_secret", &turn.shared_secret), ("username", &turn.username), ("password", &turn.password)];
    for (name, value) in secrets {
        if value.as_ref().is_some_and(String::is_empty) {
            return Err(problem(format!("turn.{name}"), "must not be empty; leave it out if there is none"));
        }
    }
    let fixed = turn.username.is_some() && turn.password.is_some();
    if !turn.uris.is_empty() && turn.shared_secret.is_none() && !fixed {
        return Err(problem("turn", "needs a shared_secret, or a username and a password"));
    }
    if !(60..=30 * 86_400).contains(&turn.user_lifetime.0.as_secs()) {
        return Err(problem("turn.user_lifetime", "must be from 1m to 30d"));
    }
    Ok(())
}

fn check_transports(config: &Config) -> Result<(), Problem> {
    for (index, transport) in config.rtc.transports.iter().enumerate() {
        let named = transport.get("type").and_then(serde_json::Value::as_str).is_some_and(|kind| !kind.is_empty());
        if !named {
            return Err(problem(format!("rtc.transports.{index}"), "needs a type, such as \"livekit\""));
        }
        if let Some(url) = transport.get("livekit_service_url") {
            let url = url.as_str().ok_or_else(|| "must be a string".to_owned()).and_then(check_url);
            url.map_err(|reason| problem(format!("rtc.transports.{index}.livekit_service_url"), reason))?;
        }
    }
    Ok(())
}

fn check_jobs(jobs: &Jobs) -> Result<(), Problem> {
    let counts = [
        ("jobs.concurrent", jobs.concurrent),
        ("jobs.concurrent_per_kind", jobs.concurrent_per_kind),
        ("jobs.failures_max", jobs.failures_max),
    ];
    if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
        return Err(problem(key, "must be at least 1"));
    }
    // A pause of an hour for every event is as good as never.
    if !(jobs.profile_events_per_second.is_finite() && jobs.profile_events_per_second >= 0.001) {
        return Err(problem("jobs.profile_events_per_second", "must be at least 0.001"));
    }
    Ok(())
}

fn check_rates(config: &Config) -> Result<(), Problem> {
    let (limits, delayed) = (&config.limits, &config.delayed_events);
    let rates = [
        ("limits.remote_joins_per_user", limits.remote_joins_per_user_per_second, limits.remote_joins_per_user_burst),
        ("limits.local_joins_per_user", limits.local_joins_per_user_per_second, limits.local_joins_per_user_burst),
        ("limits.joins_per_room", limits.joins_per_room_per_second, limits.joins_per_room_burst),
        (
            "limits.remote_invites_per_user",
            limits.remote_invites_per_user_per_second,
            limits.remote_invites_per_user_burst,
        ),
        ("limits.messages_per_user", limits.messages_per_user_per_second, limits.messages_per_user_burst),
        ("limits.updates_per_user", limits.updates_per_user_per_second, limits.updates_per_user_burst),
        ("limits.logins_per_address", limits.logins_per_address_per_second, limits.logins_per_address_burst),
        ("limits.logins_per_account", limits.logins_per_account_per_second, limits.logins_per_account_burst),
        (
            "limits.login_failures_per_account",
            limits.login_failures_per_account_per_second,
            limits.login_failures_per_account_burst,
        ),
        (
            "limits.registrations_per_address",
            limits.registrations_per_address_per_second,
            limits.registrations_per_address_burst,
        ),
        ("limits.reports_per_user", limits.reports_per_user_per_second, limits.reports_per_user_burst),
        (
            "limits.openid_tokens_per_user",
            limits.openid_tokens_per_user_per_second,
            limits.openid_tokens_per_user_burst,
        ),
        ("delayed_events.schedules_per_user", delayed.schedules_per_user_per_second, delayed.schedules_per_user_burst),
        ("delayed_events.restarts_per_id", delayed.restarts_per_id_per_second, delayed.restarts_per_id_burst),
        ("delayed_events.restarts_per_user", delayed.restarts_per_user_per_second, delayed.restarts_per_user_burst),
    ];
    for (name, per_second, burst) in rates {
        if !(per_second.is_finite() && per_second > 0.0) {
            return Err(problem(format!("{name}_per_second"), "must be greater than 0"));
        }
        if burst == 0 {
            return Err(problem(format!("{name}_burst"), "must be at least 1"));
        }
    }
    Ok(())
}

fn check_limits(limits: &Limits) -> Result<(), Problem> {
    let ranges: [(&str, u64, u64, u64); 33] = [
        ("pdu_max_bytes", limits.pdu_max_bytes.into(), 1_024, 65_536),
        ("transaction_max_pdus", limits.transaction_max_pdus.into(), 1, 50),
        ("transaction_max_edus", limits.transaction_max_edus.into(), 1, 100),
        ("federation_timeout_seconds", limits.federation_timeout_seconds, 1, 600),
        ("federation_join_timeout_seconds", limits.federation_join_timeout_seconds, 1, 3_600),
        ("federation_backoff_min_seconds", limits.federation_backoff_min_seconds, 1, 86_400),
        ("federation_inbound_concurrent_per_origin", limits.federation_inbound_concurrent_per_origin.into(), 1, 1_000),
        ("federation_outbound_queue_max_pdus", limits.federation_outbound_queue_max_pdus.into(), 50, 100_000),
        ("federation_outbound_queue_max_edus", limits.federation_outbound_queue_max_edus.into(), 100, 100_000),
        ("federation_outbound_concurrent", limits.federation_outbound_concurrent.into(), 1, 10_000),
        ("client_body_max_bytes", limits.client_body_max_bytes, 65_536, 1 << 30),
        ("client_keys_body_max_bytes", limits.client_keys_body_max_bytes, 65_536, 1 << 30),
        ("json_max_depth", limits.json_max_depth.into(), 10, 120),
        ("headers_max_bytes", limits.headers_max_bytes.into(), 8_192, 1 << 20),
        ("headers_max_count", limits.headers_max_count.into(), 10, 1_000),
        ("header_timeout_seconds", limits.header_timeout_seconds, 1, 600),
        ("body_timeout_seconds", limits.body_timeout_seconds, 1, 3_600),
        ("idle_timeout_seconds", limits.idle_timeout_seconds, 1, 3_600),
        ("password_hash_memory_kib", limits.password_hash_memory_kib.into(), 8, 4 << 20),
        ("report_reason_max_bytes", limits.report_reason_max_bytes.into(), 0, 64 << 10),
        ("account_data_max_bytes", limits.account_data_max_bytes.into(), 1_024, 1 << 20),
        ("account_data_max_types", limits.account_data_max_types.into(), 10, 16_384),
        ("to_device_message_max_bytes", limits.to_device_message_max_bytes.into(), 1_024, 80_000),
        ("to_device_devices_per_request", limits.to_device_devices_per_request.into(), 100, 1_000_000),
        ("to_device_queue_max_messages", limits.to_device_queue_max_messages.into(), 100, 1_000_000),
        ("to_device_queue_max_days", limits.to_device_queue_max_days.into(), 1, 36_500),
        ("key_backup_item_max_bytes", limits.key_backup_item_max_bytes.into(), 1_024, 80_000),
        ("key_max_bytes", limits.key_max_bytes.into(), 1_024, 8_192),
        ("key_query_max_users", limits.key_query_max_users.into(), 100, 1_000_000),
        ("remote_devices_per_user", limits.remote_devices_per_user.into(), 1, 1_000),
        ("key_remote_timeout_seconds", limits.key_remote_timeout_seconds.into(), 1, 60),
        ("key_claim_max_devices", limits.key_claim_max_devices.into(), 100, 1_000_000),
        ("image_decoders_concurrent", limits.image_decoders_concurrent.into(), 1, 1_000),
    ];
    for (name, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            return Err(problem(format!("limits.{name}"), format!("must be from {least} to {most}")));
        }
    }
    for (name, value) in [
        ("password_hash_passes", limits.password_hash_passes),
        ("password_hash_concurrent", limits.password_hash_concurrent),
    ] {
        if value == 0 {
            return Err(problem(format!("limits.{name}"), "must be at least 1"));
        }
    }
    if limits.federation_backoff_max_seconds < limits.federation_backoff_min_seconds {
        return Err(problem(
            "limits.federation_backoff_max_seconds",
            "must not be below federation_backoff_min_seconds",
        ));
    }
    Ok(())
}
