//! One-time keys are given away (`POST /keys/claim`).

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use primitives::UserNid;
use ruma::{OwnedDeviceId, OwnedUserId};
use serde_json::value::RawValue;
use storage::{
    Batch, Direction, KeyRange, Positioned, Text,
    schema::keys::{self as tables, DeviceKeyStateRow, OneTimeKeyIdRow},
};

use super::{Keys, KeysError, upload::stored_digest};
use crate::error::{Outcome, StoreError, outcome};

/// Attempts at a key of one device while others claim there too: each that fails is one that got a key.
const ATTEMPTS: usize = 500;
/// Keys of one request that are claimed at once, so that they share commits.
const AT_ONCE: usize = 64;

/// Which keys are claimed: of each device, one of an algorithm.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, String>>;

/// The keys that were issued: of each device, by `algorithm:id`.
pub type Issued = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<String, Box<RawValue>>>>;

impl Keys {
    /// Issues keys of this server's users: of each device the one-time key that was uploaded first, or else its fallback key. Unknown users and
    /// devices, and those that have none, are left out.
    ///
    /// What is issued here is issued to nobody else, also if the one who asked never learns of it.
    pub async fn claim(&self, claims: Claims) -> Result<Issued, KeysError> {
        let max = self.limits.claim_max_devices;
        if claims.values().map(BTreeMap::len).sum::<usize>() > max {
            return Err(KeysError::TooMuch(max));
        }
        let mut wanted = Vec::new();
        for (user_id, devices) in claims {
            let Some(user) = self.accounts.nid(&user_id).await? else { continue };
            wanted.extend(devices.into_iter().map(|(device, algorithm)| (user_id.clone(), user, device, algorithm)));
        }
        let claimed = stream::iter(wanted).map(async |(user_id, user, device, algorithm)| {
            let key = self.claim_one(user, Text::new(device.as_str()), &algorithm).await?;
            Ok::<_, StoreError>(key.map(|key| (user_id, device, key)))
        });
        let claimed: Vec<_> = claimed.buffer_unordered(AT_ONCE).try_collect().await?;
        let mut issued = Issued::new();
        for (user_id, device, (key_id, json)) in claimed.into_iter().flatten() {
            let json = RawValue::from_string(json).expect("keys are stored as JSON");
            issued.entry(user_id).or_default().entry(device).or_default().insert(key_id, json);
        }
        Ok(issued)
    }

    /// One key of a device: its full id and its JSON.
    async fn claim_one(
        &self,
        user: UserNid,
        device: Text,
        algorithm: &str,
    ) -> Result<Option<(String, String)>, StoreError> {
        let key = (user, device);
        for _ in 0..ATTEMPTS {
            let view = self.ground.storage.view();
            let Some(state) = view.get::<tables::DeviceKeyStates>(&key).await? else { return Ok(None) };
            let range = KeyRange::prefix(&(user, key.1.clone(), Text::new(algorithm)));
            let first = if count_of(&state, algorithm) > 0 {
                view.scan::<tables::OneTimeKeys>(&range, 1, Direction::Forward).await?.rows.pop()
            } else {
                None
            };
            let (mut batch, mut after) = (Batch::new(), state.clone());
            let (kind, issued) = if let Some((place, row)) = first {
                take_one(&mut after, algorithm);
                let id = (user, key.1.clone(), place.2.clone(), Text::new(&*row.key_id));
                let claimed = OneTimeKeyIdRow { digest: stored_digest(&row), claimed: true };
                batch.assert_equals::<tables::OneTimeKeys>(&place, &row).delete::<tables::OneTimeKeys>(&place);
                batch.put::<tables::OneTimeKeyIds>(&id, &Positioned::pending(claimed));
                ("one_time", (format!("{algorithm}:{}", row.key_id), row.json))
            } else if let Some(fallback) = after.fallback.iter_mut().find(|key| key.algorithm == algorithm) {
                fallback.used = true;
                ("fallback", (format!("{algorithm}:{}", fallback.key_id), fallback.json.clone()))
            } else {
                return Ok(None);
            };
            let written = if after == state {
                Outcome::Done(view.position())
            } else {
                batch.assert_equals::<tables::DeviceKeyStates>(&key, &state);
                batch.put::<tables::DeviceKeyStates>(&key, &after);
                outcome(self.ground.storage.commit(batch).await)?
            };
            if let Outcome::Done(_) = written {
                metrics::counter!("sundial_keys_claimed_total", "kind" => kind).increment(1);
                return Ok(Some(issued));
            }
        }
        Err(StoreError::Contended)
    }
}

fn count_of(state: &DeviceKeyStateRow, algorithm: &str) -> u32 {
    state.counts.iter().find(|(known, _)| known == algorithm).map_or(0, |(_, count)| *count)
}

fn take_one(state: &mut DeviceKeyStateRow, algorithm: &str) {
    for (known, count) in &mut state.counts {
        if known == algorithm {
            *count -= 1;
        }
    }
    state.counts.retain(|(_, count)| *count > 0);
    state.claimed += 1;
}
