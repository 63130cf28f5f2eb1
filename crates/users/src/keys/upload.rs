//! A device uploads its keys (`POST /keys/upload`).

use std::collections::BTreeMap;

use primitives::{StreamPosition, UserNid};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId};
use sha2::{Digest, Sha256};
use storage::{
    Batch, Direction, KeyRange, Positioned, ReadError, Text, View,
    schema::{
        keys::{self as tables, DeviceKeyStateRow, DeviceKeysRow, FallbackKey, OneTimeKeyIdRow, OneTimeKeyRow},
        users::Devices,
    },
};

use super::{DeviceLists, Keys, KeysError, KeysLeft, delete_given_away, outgoing::Change, signed, stored};
use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    options::KeyLimits,
    tokens::Requester,
};

/// Algorithms of which a device may have one-time or fallback keys.
const MAX_ALGORITHMS: usize = 8;
/// The longest `algorithm:id` of a key, in bytes.
const MAX_KEY_ID_BYTES: usize = 255;
/// Claimed keys of a device that are remembered; when there are more, the older half is forgotten.
const CLAIMED: u32 = 1_000;
/// Rows that one page of a scan reads.
const PAGE: usize = 500;

/// What a device uploads.
#[derive(Clone, Debug, Default)]
pub struct KeyUpload {
    /// Its identity keys.
    pub device_keys: Option<CanonicalJsonObject>,
    /// One-time keys, by `algorithm:id`.
    pub one_time_keys: BTreeMap<String, CanonicalJsonValue>,
    /// Fallback keys, by `algorithm:id`; one of an algorithm.
    pub fallback_keys: BTreeMap<String, CanonicalJsonValue>,
}

/// A key to give away that has the right form.
struct GivenAway {
    algorithm: String,
    key_id: String,
    json: String,
    digest: [u8; 32],
    /// The key itself, if its algorithm has it signed.
    signed: Option<CanonicalJsonObject>,
}

/// An upload that has the right form.
struct Checked {
    device_keys: Option<CanonicalJsonObject>,
    one_time: Vec<GivenAway>,
    fallback: Vec<GivenAway>,
}

/// Whose keys they are.
struct Owner<'a> {
    user: UserNid,
    user_id: &'a UserId,
    device: &'a DeviceId,
}

impl Keys {
    /// Takes the keys of the device that asks. Doing it again changes nothing. Answers what the device then has left.
    ///
    /// Identity keys must be those of the device, and if it has signed them, rightly. Other identity keys than before are taken for those of a device
    /// that was set up anew: one-time and fallback keys and signatures of the old ones go.
    pub async fn upload(&self, who: &Requester, upload: KeyUpload) -> Result<KeysLeft, KeysError> {
        let device = who.device_id.as_deref().ok_or(KeysError::NoDevice)?;
        let owner = Owner { user: who.user_nid, user_id: &who.user_id, device };
        let checked = Checked::new(&owner, upload, self.limits)?;
        let key = (owner.user, Text::new(device.as_str()));
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let row = view.get::<Devices>(&key).await?.ok_or(KeysError::NoDevice)?;
            let mut batch = Batch::new();
            check_signatures(&view, &owner, &checked).await?;
            let new_list = write_identity(&view, &mut batch, &owner, &checked).await?;
            let state = self.write_given_away(&view, &mut batch, &owner, &checked, new_list == List::Renewed).await?;
            if batch.is_empty() {
                return Ok(state.into());
            }
            if new_list != List::Same {
                let change = Change::Device(owner.device.as_str());
                DeviceLists::change(&view, &mut batch, owner.user, &[change]).await?;
            }
            batch.assert_equals::<Devices>(&key, &row);
            if let Outcome::Done(position) = outcome(self.ground.storage.commit(batch).await)? {
                if new_list != List::Same {
                    self.lists.ring();
                    self.lists.wake(owner.user, position);
                }
                return Ok(state.into());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Adds one-time and fallback keys to a batch. Answers what the device then has.
    async fn write_given_away(
        &self,
        view: &View,
        batch: &mut Batch,
        owner: &Owner<'_>,
        checked: &Checked,
        anew: bool,
    ) -> Result<DeviceKeyStateRow, KeysError> {
        let key = (owner.user, Text::new(owner.device.as_str()));
        let old = view.get::<tables::DeviceKeyStates>(&key).await?;
        let mut state = old.clone().unwrap_or_default();
        if anew {
            state = DeviceKeyStateRow::default();
            delete_given_away(batch, &key);
        }
        let mut index = 0_u16;
        for one_time in &checked.one_time {
            let id = (key.0, key.1.clone(), Text::new(&*one_time.algorithm), Text::new(&*one_time.key_id));
            let known = if anew { None } else { view.get::<tables::OneTimeKeyIds>(&id).await? };
            match known {
                Some(known) if known.value.digest == one_time.digest => continue,
                Some(_) => return Err(KeysError::OtherKey(one_time.full_id())),
                None => {}
            }
            let row = OneTimeKeyRow { key_id: one_time.key_id.clone(), json: one_time.json.clone() };
            let place = (key.0, key.1.clone(), id.2.clone(), StreamPosition::PENDING, index);
            batch.put::<tables::OneTimeKeys>(&place, &row);
            let row = OneTimeKeyIdRow { digest: one_time.digest, claimed: false };
            batch.put::<tables::OneTimeKeyIds>(&id, &Positioned::pending(row));
            add_to_count(&mut state, &one_time.algorithm);
            index = index.checked_add(1).ok_or(KeysError::TooMany(self.limits.one_time_keys_max))?;
        }
        for fallback in &checked.fallback {
            set_fallback(&mut state, fallback);
        }
        if state.counts.iter().any(|(_, count)| *count > self.limits.one_time_keys_max) {
            return Err(KeysError::TooMany(self.limits.one_time_keys_max));
        }
        if state.counts.len().max(state.fallback.len()) > MAX_ALGORITHMS {
            return Err(KeysError::Malformed(format!("keys of more than {MAX_ALGORITHMS} algorithms")));
        }
        if state.claimed > CLAIMED {
            state.claimed -= forget_claimed(view, batch, &key).await?;
        }
        if anew || old.as_ref() != Some(&state) && !(old.is_none() && state == DeviceKeyStateRow::default()) {
            batch.assert_unchanged::<tables::DeviceKeyStates>(&key, old.as_ref());
            batch.put::<tables::DeviceKeyStates>(&key, &state);
        }
        Ok(state)
    }
}

/// What an upload does to the user's list of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    /// Nothing.
    Same,
    /// A device has other or more to show.
    Changed,
    /// The device has another identity.
    Renewed,
}

/// Refuses one-time and fallback keys that name a signature of the device which is not its key's. Of a device that has no key yet nothing can be said.
async fn check_signatures(view: &View, owner: &Owner<'_>, checked: &Checked) -> Result<(), KeysError> {
    let given_away = || checked.one_time.iter().chain(&checked.fallback);
    if given_away().all(|key| key.signed.is_none()) {
        return Ok(());
    }
    let stored_keys = match &checked.device_keys {
        Some(_) => None,
        None => view.get::<tables::DeviceKeys>(&(owner.user, Text::new(owner.device.as_str()))).await?,
    };
    let stored_keys = stored_keys.map(|row| stored(&row.json));
    let Some(keys) = checked.device_keys.as_ref().or(stored_keys.as_ref()) else { return Ok(()) };
    let own_id = format!("ed25519:{}", owner.device);
    let public = keys.get("keys").and_then(CanonicalJsonValue::as_object).and_then(|keys| keys.get(&own_id));
    let Some(public) = public.and_then(CanonicalJsonValue::as_str) else { return Ok(()) };
    for signed in given_away().filter_map(|key| key.signed.as_ref()) {
        let signature = signed::signatures_of(signed, owner.user_id.as_str()).find(|(key_id, _)| *key_id == own_id);
        if signature.is_some_and(|(_, signature)| !signed::verifies(signed, signature, public)) {
            return Err(KeysError::BadSignature("a one-time key"));
        }
    }
    Ok(())
}

/// Adds the identity keys of an upload to a batch.
async fn write_identity(
    view: &View,
    batch: &mut Batch,
    owner: &Owner<'_>,
    checked: &Checked,
) -> Result<List, ReadError> {
    let Some(new) = &checked.device_keys else { return Ok(List::Same) };
    let key = (owner.user, Text::new(owner.device.as_str()));
    let old = view.get::<tables::DeviceKeys>(&key).await?;
    let mut list = List::Changed;
    let mut keys = new.clone();
    if let Some(old) = &old {
        let known = stored(&old.json);
        if signed::signed_part(&known) == signed::signed_part(new) {
            // What the user has signed since stays.
            keys = known;
            signed::add_signatures(
                &mut keys,
                owner.user_id.as_str(),
                signed::signatures_of(new, owner.user_id.as_str()),
            );
        } else if known.get("keys") != new.get("keys") {
            list = List::Renewed;
        }
    }
    let row = DeviceKeysRow { json: signed::text(&keys) };
    if old.as_ref() == Some(&row) {
        return Ok(List::Same);
    }
    batch.assert_unchanged::<tables::DeviceKeys>(&key, old.as_ref()).put::<tables::DeviceKeys>(&key, &row);
    Ok(list)
}

fn add_to_count(state: &mut DeviceKeyStateRow, algorithm: &str) {
    match state.counts.binary_search_by(|(known, _)| known.as_str().cmp(algorithm)) {
        Ok(at) => state.counts[at].1 += 1,
        Err(at) => state.counts.insert(at, (algorithm.to_owned(), 1)),
    }
}

fn set_fallback(state: &mut DeviceKeyStateRow, key: &GivenAway) {
    let new = FallbackKey {
        algorithm: key.algorithm.clone(),
        key_id: key.key_id.clone(),
        json: key.json.clone(),
        used: false,
    };
    match state.fallback.binary_search_by(|known| known.algorithm.cmp(&key.algorithm)) {
        Ok(at) if state.fallback[at].key_id == key.key_id && digest_of(&state.fallback[at].json) == key.digest => {}
        Ok(at) => state.fallback[at] = new,
        Err(at) => state.fallback.insert(at, new),
    }
}

/// Forgets the older half of the claimed keys of a device. Answers how many.
async fn forget_claimed(view: &View, batch: &mut Batch, key: &(UserNid, Text)) -> Result<u32, ReadError> {
    let (mut claimed, mut rest) = (Vec::new(), Some(KeyRange::prefix(key)));
    while let Some(range) = rest {
        let page = view.scan::<tables::OneTimeKeyIds>(&range, PAGE, Direction::Forward).await?;
        claimed.extend(page.rows.into_iter().filter(|(_, row)| row.value.claimed).map(|(id, row)| (row.position, id)));
        rest = page.rest;
    }
    claimed.sort_unstable_by_key(|(position, _)| *position);
    claimed.truncate(claimed.len() / 2);
    for (_, id) in &claimed {
        batch.delete::<tables::OneTimeKeyIds>(id);
    }
    Ok(u32::try_from(claimed.len()).unwrap_or(u32::MAX))
}

impl GivenAway {
    fn new(full_id: &str, value: &CanonicalJsonValue, owner: &Owner<'_>, max: usize) -> Result<Self, KeysError> {
        let malformed = |why: &str| KeysError::Malformed(format!("the key {full_id:?} {why}"));
        let parts = full_id.split_once(':').filter(|(algorithm, key_id)| !algorithm.is_empty() && !key_id.is_empty());
        let (algorithm, key_id) = parts.ok_or_else(|| malformed("is not named `algorithm:id`"))?;
        if full_id.len() > MAX_KEY_ID_BYTES {
            return Err(malformed("has too long a name"));
        }
        let public = match value {
            CanonicalJsonValue::String(key) => Some(key),
            CanonicalJsonValue::Object(object) => match object.get("key") {
                Some(CanonicalJsonValue::String(key)) => Some(key),
                _ => None,
            },
            _ => None,
        };
        let public = public.ok_or_else(|| malformed("is neither a string nor an object with a `key`"))?;
        if algorithm.ends_with("curve25519") && !signed::is_public_key(public) {
            return Err(malformed("is not 32 bytes in unpadded base64"));
        }
        let mut signed_object = None;
        if algorithm.starts_with("signed_") {
            let object = value.as_object().ok_or_else(|| malformed("is not signed"))?;
            if signed::signatures_of(object, owner.user_id.as_str()).next().is_none() {
                return Err(KeysError::BadSignature("a one-time key"));
            }
            signed_object = Some(object.clone());
        }
        let json = serde_json::to_string(value).expect("a canonical value serialises");
        if json.len() > max {
            return Err(KeysError::TooLarge(max));
        }
        let digest = digest_of(&json);
        Ok(Self { algorithm: algorithm.to_owned(), key_id: key_id.to_owned(), json, digest, signed: signed_object })
    }

    fn full_id(&self) -> String {
        format!("{}:{}", self.algorithm, self.key_id)
    }
}

/// SHA-256 of a key without its signatures, which may be made anew.
fn digest_of(json: &str) -> [u8; 32] {
    let object = serde_json::from_str::<CanonicalJsonObject>(json);
    let part = object.map_or_else(|_| json.to_owned(), |object| signed::signed_part(&object));
    Sha256::digest(part).into()
}

/// The same, of a key that is stored.
pub(super) fn stored_digest(row: &OneTimeKeyRow) -> [u8; 32] {
    digest_of(&row.json)
}

impl Checked {
    fn new(owner: &Owner<'_>, upload: KeyUpload, limits: KeyLimits) -> Result<Self, KeysError> {
        let device_keys = upload.device_keys.map(|keys| identity(owner, keys, limits.key_max_bytes)).transpose()?;
        let given_away = |keys: BTreeMap<String, CanonicalJsonValue>| {
            let keys = keys.into_iter().map(|(id, key)| GivenAway::new(&id, &key, owner, limits.key_max_bytes));
            keys.collect::<Result<Vec<_>, _>>()
        };
        let (one_time, fallback) = (given_away(upload.one_time_keys)?, given_away(upload.fallback_keys)?);
        if fallback.windows(2).any(|pair| pair[0].algorithm == pair[1].algorithm) {
            return Err(KeysError::Malformed("there can be one fallback key of an algorithm".to_owned()));
        }
        Ok(Self { device_keys, one_time, fallback })
    }
}

/// Identity keys as they are kept.
fn identity(owner: &Owner<'_>, keys: CanonicalJsonObject, max: usize) -> Result<CanonicalJsonObject, KeysError> {
    let malformed = |what: &str| KeysError::Malformed(format!("device_keys: {what}"));
    let text = |name: &str| keys.get(name).and_then(CanonicalJsonValue::as_str);
    let (user, device) = (owner.user_id.as_str(), owner.device.as_str());
    match (text("user_id"), text("device_id")) {
        (Some(of), _) if of != user => return Err(KeysError::Foreign("user")),
        (_, Some(of)) if of != device => return Err(KeysError::Foreign("device")),
        (Some(_), Some(_)) => {}
        _ => return Err(malformed("user_id and device_id are strings that have to be there")),
    }
    let algorithms = keys.get("algorithms").and_then(CanonicalJsonValue::as_array);
    if !algorithms.is_some_and(|list| list.iter().all(|algorithm| algorithm.as_str().is_some())) {
        return Err(malformed("algorithms is a list of strings that has to be there"));
    }
    let public = keys.get("keys").and_then(CanonicalJsonValue::as_object).ok_or_else(|| malformed("no keys"))?;
    for (key_id, key) in public {
        let (algorithm, of) = key_id.split_once(':').ok_or_else(|| malformed("keys are named `algorithm:device`"))?;
        let key = key.as_str().ok_or_else(|| malformed("a key is a string"))?;
        if of != device {
            return Err(KeysError::Foreign("device"));
        }
        if matches!(algorithm, "ed25519" | "curve25519") && !signed::is_public_key(key) {
            return Err(malformed("a key is 32 bytes in unpadded base64"));
        }
    }
    let own = public.get(&format!("ed25519:{device}")).and_then(CanonicalJsonValue::as_str);
    let own = own.ok_or_else(|| malformed("there is no ed25519 key"))?;
    if keys.get("signatures").and_then(CanonicalJsonValue::as_object).is_none() {
        return Err(malformed("signatures is an object that has to be there"));
    }
    let own_id = format!("ed25519:{device}");
    // Clients refuse keys that are not signed by the device; to the server an absent signature is no harm, a wrong one a mistake.
    let signature = signed::signatures_of(&keys, user).find(|(key_id, _)| *key_id == own_id);
    if signature.is_some_and(|(_, signature)| !signed::verifies(&keys, signature, own)) {
        return Err(KeysError::BadSignature("the device key"));
    }
    let keys = signed::kept(keys, user);
    if signed::text(&keys).len() > max { Err(KeysError::TooLarge(max)) } else { Ok(keys) }
}
