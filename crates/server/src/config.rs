//! The configuration: one TOML file, overridden key by key from the environment, read strictly.
//!
//! Every option has a default except `server_name` and `data_dir`. `config.example.toml` at the top of the repository lists them all;
//! a test keeps it and the reference in `docs/` complete. Layers below know nothing of this type: the wiring hands each its own options.

mod check;
mod delayed_events;
mod error;
mod jobs;
mod limits;
mod sections;
mod services;
mod source;
mod units;

use std::path::{Path, PathBuf};

use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

pub use self::{
    delayed_events::{CancelOnNewerState, DelayedEvents},
    error::ConfigError,
    jobs::Jobs,
    limits::Limits,
    sections::{
        Contact, Directory, Durability, Federation, Listener, Log, LogFormat, MayPublish, Registration,
        RegistrationMode, Search, Storage, Support, Tls,
    },
    services::{Profiles, Rtc, Turn},
    units::{ByteSize, Span},
};

/// Everything that the configuration file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name that ends every user id and room alias of this server. Can't be changed later.
    pub server_name: OwnedServerName,
    /// Where everything is kept. Belongs to one `server_name` and one process. Relative to the directory of the file.
    pub data_dir: PathBuf,
    /// The room version of a room created without one: "1" to "12".
    #[serde(default = "default_room_version")]
    pub default_room_version: String,
    /// The URL that clients reach the server by, as told by `/.well-known/matrix/client`. None: that path answers 404.
    #[serde(default)]
    pub public_base_url: Option<String>,
    /// Whether users see who of those they share a room with is online.
    #[serde(default = "default_presence")]
    pub presence: bool,
    /// Whether `/metrics` is served.
    #[serde(default)]
    pub metrics: bool,
    /// Sockets, each with the client and the federation API.
    #[serde(default = "default_listeners")]
    pub listeners: Vec<Listener>,
    /// Who may make an account.
    #[serde(default)]
    pub registration: Registration,
    /// Which rooms and which users can be found.
    #[serde(default)]
    pub directory: Directory,
    /// The store.
    #[serde(default)]
    pub storage: Storage,
    /// Full-text search.
    #[serde(default)]
    pub search: Search,
    /// Delayed events and their limits.
    #[serde(default)]
    pub delayed_events: DelayedEvents,
    /// Work in the background.
    #[serde(default)]
    pub jobs: Jobs,
    /// Other servers.
    #[serde(default)]
    pub federation: Federation,
    /// What is written to the log.
    #[serde(default)]
    pub log: Log,
    /// What `/.well-known/matrix/support` says.
    #[serde(default)]
    pub support: Support,
    /// The TURN service for calls between two.
    #[serde(default)]
    pub turn: Turn,
    /// The services for calls of many.
    #[serde(default)]
    pub rtc: Rtc,
    /// Who may look up whom.
    #[serde(default)]
    pub profiles: Profiles,
    /// Sizes, depths, time-outs, rates and counts.
    #[serde(default)]
    pub limits: Limits,
}

fn default_room_version() -> String {
    "12".to_owned()
}

fn default_presence() -> bool {
    true
}

fn default_listeners() -> Vec<Listener> {
    vec![Listener { bind: ([127, 0, 0, 1], 8008).into(), tls: None, trusted_proxies: Vec::new() }]
}

impl Config {
    /// Reads the file, applies the overrides among `environment` (`SUNDIAL__SECTION__KEY`), and checks every value.
    ///
    /// # Errors
    /// The first thing wrong: the key, its line or its variable, and the reason.
    pub fn load(file: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(file).map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
        let mut config = Self::parse(&text, environment).map_err(|error| error.in_file(file))?;
        let directory = file.parent().unwrap_or(Path::new(""));
        config.data_dir = directory.join(&config.data_dir);
        for tls in config.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
            tls.certificate = directory.join(&tls.certificate);
            tls.key = directory.join(&tls.key);
        }
        for certificate in &mut config.federation.extra_ca_certificates {
            *certificate = directory.join(&certificate);
        }
        Ok(config)
    }

    /// The same from text; relative paths stay as they are.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut source = source::Source::parse(text)?;
        source.apply(environment)?;
        let config: Self = source.read()?;
        check::check(&config).map_err(|problem| source.locate(&problem.key, problem.reason))?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
