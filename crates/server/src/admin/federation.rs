//! What an administrator asks about other servers, and how it is answered: by the running server, or by a command that has opened the store.

use federation_client::{Destinations, FederationClient};
use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};

/// Most servers in one answer.
const SERVERS_MAX: usize = 1_000;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// The servers that failed last time, in the order of their names.
    Destinations {
        /// How many; at most 1,000 are answered.
        limit: usize,
    },
    /// That a server is asked again at once.
    Retry {
        /// Its name.
        server: OwnedServerName,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub enum Told {
    /// The servers.
    Destinations {
        /// Those that failed last time.
        failing: Vec<Failing>,
    },
    /// It is asked again.
    Retried,
}

/// A server that failed last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Its name.
    pub server: String,
    /// Failures in a row.
    pub failures: u32,
    /// When it is asked again, in milliseconds since 1970.
    pub retry_ms: u64,
}

/// Where the pauses of other servers are read and ended.
#[derive(Clone, Debug)]
pub struct FederationDesk {
    destinations: Destinations,
    client: Option<FederationClient>,
}

impl FederationDesk {
    /// The servers of a store, and who asks them; none where federation is switched off.
    pub fn new(destinations: Destinations, client: Option<FederationClient>) -> Self {
        Self { destinations, client }
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// A server that is not left alone, a store that fails.
    pub async fn answer(&self, request: &Ask) -> anyhow::Result<Told> {
        match request {
            Ask::Destinations { limit } => {
                let failing = self.destinations.failing((*limit).clamp(1, SERVERS_MAX)).await?.into_iter();
                let failing = failing.map(|(server, known)| Failing {
                    server: server.into(),
                    failures: known.failures,
                    retry_ms: known.retry_at.0,
                });
                Ok(Told::Destinations { failing: failing.collect() })
            }
            Ask::Retry { server } => {
                let stored = self.destinations.end_pause(server).await?;
                let paused = self.client.as_ref().filter(|client| client.pause(server).is_some());
                if let Some(client) = paused {
                    // Whoever sends to it is woken.
                    client.heard_from(server);
                }
                anyhow::ensure!(stored || paused.is_some(), "{server} has not failed");
                Ok(Told::Retried)
            }
        }
    }
}
