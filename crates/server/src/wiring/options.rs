//! From the configuration to the options of each crate.

use crate::config::{Config, Durability};

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
