//! What the configuration decides about accounts.

use std::time::Duration;

use ruma::OwnedServerName;

use crate::{limits::Limits, turn::Turn};

/// Who may register an account over the client API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Nobody, but for the token of the first start.
    #[default]
    Closed,
    /// Whoever holds a registration token.
    Token,
    /// Everybody.
    Open,
}

/// The cost of a password hash: Argon2id's parameters, and how many run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordHashCost {
    /// Memory of one hash, in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
    /// Hashes that run at the same time; others wait.
    pub at_once: usize,
}

impl Default for PasswordHashCost {
    fn default() -> Self {
        Self { memory_kib: 19_456, iterations: 2, parallelism: 1, at_once: 2 }
    }
}

/// Sizes of profiles. Never switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileSizes {
    /// The longest display name, in bytes.
    pub display_name_max_bytes: usize,
    /// The longest avatar URL, in bytes.
    pub avatar_url_max_bytes: usize,
}

impl Default for ProfileSizes {
    fn default() -> Self {
        Self { display_name_max_bytes: 256, avatar_url_max_bytes: 1_000 }
    }
}

/// Sizes and counts of reports. Never switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportSizes {
    /// The longest reason, in bytes.
    pub reason_max_bytes: usize,
    /// How many reports of one user may wait for an administrator.
    pub waiting_max_per_user: u32,
}

impl Default for ReportSizes {
    fn default() -> Self {
        Self { reason_max_bytes: 4_000, waiting_max_per_user: 1_000 }
    }
}

/// Sizes of account data. Never switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountDataSizes {
    /// The largest content of one type, in bytes of JSON.
    pub max_bytes: usize,
    /// The most types that a user may have in one room, and outside rooms: 16,384 or fewer, so that one batch can change them all. What has been
    /// deleted counts until its place is needed.
    pub max_types: usize,
}

impl Default for AccountDataSizes {
    fn default() -> Self {
        Self { max_bytes: 65_536, max_types: 1_000 }
    }
}

/// Sizes and counts of to-device messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToDeviceSizes {
    /// The largest message, in bytes of its content's JSON: at most 80,000.
    pub message_max_bytes: usize,
    /// The most devices that one request may send to.
    pub devices_per_request: usize,
    /// The most messages that wait for a device. Exceeded by a 64th at most before the oldest go.
    pub queue_max_messages: usize,
    /// How long a message waits.
    pub queue_max_age: Duration,
}

impl Default for ToDeviceSizes {
    fn default() -> Self {
        Self {
            message_max_bytes: 65_536,
            devices_per_request: 10_000,
            queue_max_messages: 10_000,
            queue_max_age: Duration::from_hours(30 * 24),
        }
    }
}

/// Sizes and counts of key backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBackupSizes {
    /// The largest encrypted key and the largest `auth_data`, in bytes of JSON: at most 80,000.
    pub item_max_bytes: usize,
    /// The most keys in one backup.
    pub max_keys: u64,
    /// The most backups of a user.
    pub backups_per_user: u32,
}

impl Default for KeyBackupSizes {
    fn default() -> Self {
        Self { item_max_bytes: 65_536, max_keys: 500_000, backups_per_user: 100 }
    }
}

/// Sizes and counts of keys. Sizes are never switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// The largest key that is uploaded, in bytes of canonical JSON: 8,192 or fewer, so that the keys of a device fit a row.
    pub key_max_bytes: usize,
    /// One-time keys that a device may have of one algorithm.
    pub one_time_keys_max: u32,
    /// Users whose keys are asked for at once.
    pub query_max_users: usize,
    /// Devices of which keys are claimed at once.
    pub claim_max_devices: usize,
    /// The longest that a request waits for other servers.
    pub remote_timeout: Duration,
    /// The most devices that are kept of another server's user: 1,000 or fewer, so that they fit a batch.
    pub remote_devices_max: usize,
}

impl Default for KeyLimits {
    fn default() -> Self {
        Self {
            key_max_bytes: 8_192,
            one_time_keys_max: 500,
            query_max_users: 10_000,
            claim_max_devices: 10_000,
            remote_timeout: Duration::from_secs(10),
            remote_devices_max: 1_000,
        }
    }
}

/// Everything that the configuration decides about accounts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// Who may register.
    pub registration: RegistrationMode,
    /// The secret of `/_synapse/admin/v1/register`; none switches it off.
    pub shared_secret: Option<String>,
    /// Whether guests may register.
    pub allow_guests: bool,
    /// How long an access token lives if its client can refresh it. All others live until they are logged out.
    pub access_token_lifetime: Duration,
    /// How long a refresh token lives; none for ever.
    pub refresh_token_lifetime: Option<Duration>,
    /// Rates, bursts and whether they are enforced.
    pub limits: Limits,
    /// Sizes of profiles.
    pub profile_sizes: ProfileSizes,
    /// How many push rules of their own a user may have.
    pub push_rules_max: usize,
    /// Sizes and counts of reports.
    pub report_sizes: ReportSizes,
    /// Sizes of account data.
    pub account_data_sizes: AccountDataSizes,
    /// Sizes and counts of to-device messages.
    pub to_device_sizes: ToDeviceSizes,
    /// Sizes and counts of key backups.
    pub key_backup_sizes: KeyBackupSizes,
    /// Sizes and counts of keys.
    pub key_limits: KeyLimits,
    /// Whether other servers are shown the names of devices.
    pub device_names_for_servers: bool,
    /// Whether presence is kept and told.
    pub presence: bool,
    /// What a password hash costs.
    pub password_hash: PasswordHashCost,
    /// The TURN service that clients may use, if there is one.
    pub turn: Option<Turn>,
}

impl Options {
    /// The defaults, for a server of this name.
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            server_name,
            registration: RegistrationMode::default(),
            shared_secret: None,
            allow_guests: false,
            access_token_lifetime: Duration::from_mins(5),
            refresh_token_lifetime: None,
            limits: Limits::default(),
            profile_sizes: ProfileSizes::default(),
            push_rules_max: 1_000,
            report_sizes: ReportSizes::default(),
            account_data_sizes: AccountDataSizes::default(),
            to_device_sizes: ToDeviceSizes::default(),
            key_backup_sizes: KeyBackupSizes::default(),
            key_limits: KeyLimits::default(),
            device_names_for_servers: false,
            presence: true,
            password_hash: PasswordHashCost::default(),
            turn: None,
        }
    }
}
