//! `.well-known/matrix/server` of other hosts, cached for as long as they say, within bounds.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header};
use primitives::{SharedClock, SystemClock};
use quick_cache::sync::Cache;
use reqwest::{
    Client,
    redirect::{Attempt, Policy},
};
use ruma::OwnedServerName;
use serde::Deserialize;

use super::bounded;
use crate::address::is_public;

/// Hosts whose answers are remembered.
const REMEMBERED: usize = 20_000;
/// How long an answer is believed that doesn't say …
const BELIEVED: Duration = Duration::from_hours(24);
/// … at least, whatever it says …
const BELIEVED_MIN: Duration = Duration::from_mins(5);
/// … and at most.
const BELIEVED_MAX: Duration = Duration::from_hours(48);
/// How long a host that has none isn't asked again.
const NONE_BELIEVED: Duration = Duration::from_mins(10);
/// The longest wait for an answer: the request that it is for goes on without.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

#[derive(Clone, Debug)]
struct Known {
    server: Option<OwnedServerName>,
    /// On the monotonic clock.
    until: Duration,
}

/// What hosts say of where their servers are.
pub(super) struct WellKnowns {
    client: Client,
    max_bytes: usize,
    known: Cache<String, Arc<Known>>,
    clock: SharedClock,
}

impl std::fmt::Debug for WellKnowns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WellKnowns").field("max_bytes", &self.max_bytes).finish_non_exhaustive()
    }
}

impl WellKnowns {
    pub(super) fn new(client: Client, max_bytes: usize) -> Self {
        Self { client, max_bytes, known: Cache::new(REMEMBERED), clock: SystemClock::shared() }
    }

    /// The server that a host names. Several who ask at once may each fetch it; what they find is the same.
    pub(super) async fn get(&self, host: &str) -> Option<OwnedServerName> {
        let now = self.clock.monotonic();
        if let Some(known) = self.known.get(host)
            && now < known.until
        {
            return known.server.clone();
        }
        let found = tokio::time::timeout(TIMEOUT, self.fetch(host)).await.ok().flatten();
        let believed = found.as_ref().map_or(NONE_BELIEVED, |(_, believed)| *believed);
        let server = found.map(|(server, _)| server);
        let known = Known { server: server.clone(), until: self.clock.monotonic().saturating_add(believed) };
        self.known.insert(host.to_owned(), Arc::new(known));
        server
    }

    async fn fetch(&self, host: &str) -> Option<(OwnedServerName, Duration)> {
        #[derive(Deserialize)]
        struct Document {
            #[serde(rename = "m.server")]
            server: OwnedServerName,
        }
        let response = self.client.get(format!("https://{host}/.well-known/matrix/server")).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let answer = bounded(response, self.max_bytes).await.ok()?;
        let document: Document = serde_json::from_slice(answer.body()).ok()?;
        Some((document.server, believed(answer.headers())))
    }
}

/// How long an answer may be believed, by its `Cache-Control`.
fn believed(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives =
        values.flat_map(|value| value.split(',')).map(|directive| directive.trim().to_ascii_lowercase());
    let said = directives.find_map(|directive| match directive.strip_prefix("max-age=") {
        Some(seconds) => seconds.trim_matches('"').parse().ok().map(Duration::from_secs),
        None => matches!(&*directive, "no-store" | "no-cache").then_some(Duration::ZERO),
    });
    said.unwrap_or(BELIEVED).clamp(BELIEVED_MIN, BELIEVED_MAX)
}

/// Redirects are followed to other hosts, as long as they stay HTTPS (which the client sees to) and, where they name an address, public.
pub(super) fn redirects(allow_private: bool) -> Policy {
    Policy::custom(move |attempt: Attempt<'_>| {
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error("too many redirects");
        }
        let literal = attempt
            .url()
            .host_str()
            .and_then(|host| host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().ok());
        match literal {
            Some(address) if !allow_private && !is_public(address) => attempt.error("a redirect to a private address"),
            _ => attempt.follow(),
        }
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_answer_is_believed_as_long_as_it_says_within_bounds() {
        let of = |value: &'static str| {
            believed(&HeaderMap::from_iter([(header::CACHE_CONTROL, HeaderValue::from_static(value))]))
        };
        assert_eq!(believed(&HeaderMap::new()), BELIEVED);
        assert_eq!(of("public, max-age=3600"), Duration::from_hours(1));
        assert_eq!(of("max-age=1"), BELIEVED_MIN);
        assert_eq!(of("No-Store"), BELIEVED_MIN);
        assert_eq!(of("max-age=99999999"), BELIEVED_MAX);
        assert_eq!(of("max-age=nonsense"), BELIEVED);
    }
}
