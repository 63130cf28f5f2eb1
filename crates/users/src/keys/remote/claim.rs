//! One-time keys of other servers' users are claimed of their servers.

use std::collections::BTreeMap;

use federation_client::FederationClient;
use futures_util::{StreamExt, stream};
use ruma::OwnedServerName;
use serde_json::value::RawValue;

use super::{SERVERS_AT_ONCE, Unanswered, answers};
use crate::keys::{Claims, Issued, Keys, KeysError};

impl Keys {
    /// Claims keys of other servers' users, all servers at once, within a time that the configuration bounds. What a server gives that was not asked for is passed over.
    pub async fn claim_remote(
        &self,
        client: &FederationClient,
        claims: BTreeMap<OwnedServerName, Claims>,
        timeout: std::time::Duration,
    ) -> Result<(Issued, Unanswered), KeysError> {
        let max = self.limits.claim_max_devices;
        if claims.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum::<usize>() > max {
            return Err(KeysError::TooMuch(max));
        }
        let deadline = self.deadline(timeout);
        let asked = stream::iter(claims).map(async |(server, wanted)| {
            let answer = match deadline.left(self.ground.clock.monotonic()) {
                Ok(left) => client.claim_keys(&server, &wanted, left).await,
                Err(late) => Err(late),
            };
            (server, wanted, answer)
        });
        let mut answers = asked.buffer_unordered(SERVERS_AT_ONCE);
        let (mut issued, mut unanswered) = (Issued::new(), Unanswered::new());
        while let Some((server, wanted, answer)) = answers.next().await {
            match answer {
                Ok(mut answer) => {
                    for (user, devices) in wanted {
                        let mut given = answer.one_time_keys.remove(user.as_str()).unwrap_or_default();
                        for (device, algorithm) in devices {
                            let keys = given.remove(device.as_str()).unwrap_or_default();
                            let good = keys.into_iter().find_map(|(id, key)| {
                                let json = answers::claimed(&algorithm, &id, &key, self.limits.key_max_bytes)?;
                                Some((id, RawValue::from_string(json).ok()?))
                            });
                            if let Some((id, key)) = good {
                                issued.entry(user.clone()).or_default().entry(device).or_default().insert(id, key);
                            }
                        }
                    }
                }
                Err(error) => {
                    unanswered.insert(server, error);
                }
            }
        }
        Ok((issued, unanswered))
    }
}
