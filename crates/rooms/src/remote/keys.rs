//! The keys that a whole room's events are signed with: fetched beforehand and together, so that servers that are gone cost the time of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use federation_client::{KeyError, ValidAt};
use futures_util::{StreamExt, stream};
use primitives::UnixMillis;
use ruma::{OwnedServerName, signatures::PublicKeyMap};

use super::Remote;
use crate::{Pdu, pdu::RequiredSignature, receive::EventKeys};

/// Servers that are asked at once.
const AT_ONCE: usize = 50;
/// The longest that the keys of one room are waited for. A server that has not answered by then counts as gone.
const LONGEST: Duration = Duration::from_secs(30);

/// Which keys a room's events are signed with, and when the newest of the events was made.
#[derive(Debug, Default)]
pub(super) struct Wanted(BTreeMap<(OwnedServerName, String), UnixMillis>);

impl Wanted {
    /// Adds the keys of an event.
    pub(super) fn add(&mut self, pdu: &Pdu) {
        for RequiredSignature { server, key_ids } in pdu.required_signatures().unwrap_or_default() {
            for id in key_ids {
                let latest = self.0.entry((server.clone(), id)).or_default();
                *latest = pdu.origin_server_ts().max(*latest);
            }
        }
    }

    /// Fetches them.
    pub(super) async fn fetch(self, remote: &Remote, clock: &primitives::SharedClock) -> FetchedKeys {
        let mut pending: BTreeSet<_> = self.0.keys().cloned().collect();
        {
            let mut fetched = stream::iter(self.0)
                .map(|((server, id), latest)| async move {
                    let answered = match id.as_str().try_into() {
                        Ok(key_id) => {
                            let key = remote.ring.key(&server, key_id, ValidAt::Time(latest)).await;
                            // A key that is not valid for the newest event may be for older ones.
                            matches!(key, Ok(_) | Err(KeyError::NotValid))
                        }
                        Err(_) => false,
                    };
                    ((server, id), answered)
                })
                .buffer_unordered(AT_ONCE);
            let end = clock.sleep(LONGEST);
            tokio::pin!(end);
            loop {
                tokio::select! {
                    one = fetched.next() => match one {
                        Some((key, true)) => {
                            pending.remove(&key);
                        }
                        Some((_, false)) => {}
                        None => break,
                    },
                    () = &mut end => break,
                }
            }
        }
        FetchedKeys { remote: remote.clone(), gone: pending }
    }
}

/// The keys, as far as they could be had. Who could not be asked is not asked again within the join.
#[derive(Debug)]
pub(super) struct FetchedKeys {
    remote: Remote,
    gone: BTreeSet<(OwnedServerName, String)>,
}

impl EventKeys for FetchedKeys {
    async fn keys(&self, wanted: &[RequiredSignature], at: ValidAt) -> PublicKeyMap {
        let mut left = Vec::with_capacity(wanted.len());
        for RequiredSignature { server, key_ids } in wanted {
            let key_ids = key_ids.iter().filter(|id| !self.gone.contains(&(server.clone(), (*id).clone())));
            left.push(RequiredSignature { server: server.clone(), key_ids: key_ids.cloned().collect() });
        }
        self.remote.keys(&left, at).await
    }
}
