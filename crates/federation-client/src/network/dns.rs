//! From a host's name to addresses that may be connected to.

use std::{net::SocketAddr, sync::Arc};

use hickory_resolver::TokioResolver;
use quick_cache::sync::Cache;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;

/// Hosts whose targets are remembered.
const REMEMBERED: usize = 20_000;

/// A name leads only to addresses that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to a private address")]
pub(super) struct Forbidden;

/// Looks up names, and leaves out addresses that aren't on the public Internet.
pub(super) struct PublicNames {
    resolver: Arc<TokioResolver>,
    allow_private: bool,
    /// The name to look up in a host's place.
    led: Arc<Cache<String, String>>,
}

impl std::fmt::Debug for PublicNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicNames").field("allow_private", &self.allow_private).finish_non_exhaustive()
    }
}

impl PublicNames {
    pub(super) fn new(resolver: Arc<TokioResolver>, allow_private: bool) -> Self {
        Self { resolver, allow_private, led: Arc::new(Cache::new(REMEMBERED)) }
    }

    pub(super) fn resolver(&self) -> &TokioResolver {
        &self.resolver
    }

    /// Has a host be looked for under another name.
    pub(super) fn lead(&self, host: &str, target: &str) {
        if self.led.get(host).is_none_or(|known| known != target) {
            self.led.insert(host.to_owned(), target.to_owned());
        }
    }
}

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, allow_private) = (self.resolver.clone(), self.allow_private);
        let host = self.led.get(name.as_str()).unwrap_or_else(|| name.as_str().to_owned());
        Box::pin(async move {
            let found = resolver.lookup_ip(host).await?;
            let addresses: Vec<SocketAddr> = found
                .iter()
                .filter(|address| allow_private || is_public(*address))
                // The port is that of the URL.
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if addresses.is_empty() {
                return Err(Forbidden.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
