//! From the configuration to the options of each crate.

use crate::config::{Config, Durability, RegistrationMode};

/// Where the store is, inside the data directory.
const STORE: &str = "store";

/// The store's.
pub fn storage(config: &Config) -> storage::Options {
    storage::Options {
        durability: match config.storage.durability {
            Durability::Sync => storage::Durability::Sync,
            Durability::Os => storage::Durability::Os,
        },
        memory_budget_bytes: usize::try_from(config.storage.memory_budget.0).unwrap_or(usize::MAX),
        ..storage::Options::directory(config.data_dir.join(STORE), config.server_name.as_str())
    }
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
        password_hash: users::PasswordHashCost {
            memory_kib: limits.password_hash_memory_kib,
            iterations: limits.password_hash_passes,
            at_once: limits.password_hash_concurrent as usize,
            ..users::PasswordHashCost::default()
        },
        ..users::Options::new(config.server_name.clone())
    }
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
    }
}
