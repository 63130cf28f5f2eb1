//! The smaller sections.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ipnet::IpNet;
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// One of `[[listeners]]`: a socket that serves the client and the federation API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port; port 0 takes a free one, which the log names.
    pub bind: SocketAddr,
    /// Certificate and key. None: plain HTTP.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Networks whose `X-Forwarded-For` is believed. Nobody's by default.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
}

/// Files with a certificate chain and its private key, both PEM. Read again on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// `[registration]`: who may make an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// What `/register` asks for.
    pub mode: RegistrationMode,
    /// The secret of `/_synapse/admin/v1/register`. None: that path answers 400.
    pub shared_secret: Option<String>,
    /// Whether guests may register.
    pub allow_guests: bool,
}

/// What `/register` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationMode {
    /// Nobody registers, except with the one-time token of the first start.
    #[default]
    Closed,
    /// A registration token.
    Token,
    /// Nothing.
    Open,
}

/// `[directory]`: which rooms and which users can be found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Directory {
    /// Who may put a room into the directory of public rooms.
    pub may_publish: MayPublish,
    /// Whether a search for users finds every user of this server, rather than those whom the searcher could meet in a room.
    pub search_all_users: bool,
}

/// Who may put a room into the directory of public rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MayPublish {
    /// Whoever has the power to name the room, and administrators.
    #[default]
    Members,
    /// Administrators.
    Admins,
    /// Nobody.
    Nobody,
}

/// `[storage]`: the embedded store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Memory for caches and write buffers together.
    pub memory_budget: ByteSize,
}

impl Default for Storage {
    fn default() -> Self {
        Self { durability: Durability::Sync, memory_budget: ByteSize(512 << 20) }
    }
}

/// `[search]`: full-text search over the events of rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// Whether users can search.
    pub enabled: bool,
    /// Memory for the index's cache.
    pub memory_budget: ByteSize,
}

impl Default for Search {
    fn default() -> Self {
        Self { enabled: true, memory_budget: ByteSize(32 << 20) }
    }
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// A power cut: the write was synced.
    Sync,
    /// The end of the process, but not of the operating system.
    Os,
}

/// `[federation]`: other servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the file")]
pub struct Federation {
    /// Whether other servers are talked to at all.
    pub enabled: bool,
    /// Certificates (PEM files) trusted beside those of the operating system.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Whether private, loopback and link-local addresses may be connected to. For tests and closed networks.
    pub allow_private_addresses: bool,
    /// Where other servers reach this one, as told by `/.well-known/matrix/server`. None: that path answers 404.
    pub server_address: Option<OwnedServerName>,
    /// Servers that are asked for the keys of others that can't be asked themselves. They are trusted.
    pub notaries: Vec<OwnedServerName>,
    /// Public keys (ed25519, base64) that nothing is believed of, because their private halves are in strangers' hands.
    pub denied_keys: Vec<String>,
    /// Whether other servers are shown the names that users give to their devices.
    pub device_names: bool,
    /// Whether rooms are joined with a part of their state, where the server asked gives that, and the rest is fetched afterwards.
    pub partial_state_joins: bool,
}

impl Federation {
    /// The denied keys as bytes; the first that is no key as an error.
    ///
    /// # Errors
    /// The text that is no key.
    pub fn denied(&self) -> Result<BTreeSet<[u8; 32]>, String> {
        let read = |text: &String| {
            let decoded = STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok();
            decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).ok_or_else(|| text.clone())
        };
        self.denied_keys.iter().map(read).collect()
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: true,
            extra_ca_certificates: Vec::new(),
            allow_private_addresses: false,
            server_address: None,
            notaries: Vec::new(),
            denied_keys: Vec::new(),
            device_names: false,
            partial_state_joins: false,
        }
    }
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or levels by module: `"info"`, `"warn,rooms=debug"`. Read again on SIGHUP.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[support]`: what `/.well-known/matrix/support` says. Without contacts and page that path answers 404.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Support {
    /// URL of a page with help.
    pub page: Option<String>,
    /// Whom to write to.
    pub contacts: Vec<Contact>,
}

/// One of `[[support.contacts]]`, with a Matrix id or an e-mail address or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// `m.role.admin`, `m.role.security` or `m.role.moderator`, or a role of one's own.
    pub role: String,
    /// A user id.
    #[serde(default)]
    pub matrix_id: Option<String>,
    /// An e-mail address.
    #[serde(default)]
    pub email_address: Option<String>,
}
