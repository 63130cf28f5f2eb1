//! Signatures of keys are uploaded (`POST /keys/signatures/upload`).
//!
//! A user signs their own devices with the self-signing key, their own master key with a device, and others' master keys with the user-signing key.

use std::collections::{BTreeMap, BTreeSet};

use primitives::{StreamPosition, UserNid};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, UserId};
use storage::{
    Batch, Positioned, ReadError, Text, View,
    schema::{
        keys::{self as tables, CrossSigningRow, DeviceKeysRow, KeySignaturesRow},
        remote_devices::RemoteLists,
        rooms::{UserLog, UserLogEntry},
    },
};

use super::{
    DeviceLists, Keys, KeysError, cross_signing::public_key_of, lists::FIRST_LOG_INDEX, outgoing::Change, signed,
    stored,
};
use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    tokens::Requester,
};

/// Keys that one request may sign.
const MAX_SIGNED: usize = 1_000;

/// Signed keys, by their user and their id: that of the device, or the public key itself.
pub type SignatureUpload = BTreeMap<OwnedUserId, BTreeMap<String, CanonicalJsonObject>>;

/// Why one signature is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFailure {
    /// There is no such key.
    #[error("no such key")]
    UnknownKey,
    /// It is another key than the one that is known under that id.
    #[error("the key is not the one that is known")]
    OtherKey,
    /// The key is not one that the user may sign, or they have no key to sign it with.
    #[error("this is not for you to sign")]
    NotYours,
    /// The signature is missing or wrong.
    #[error("invalid signature")]
    BadSignature,
}

/// Which signatures were not taken.
pub type Failures = BTreeMap<OwnedUserId, BTreeMap<String, SignatureFailure>>;

/// What one request writes, as far as it has been built.
struct Writing<'a> {
    view: View,
    batch: Batch,
    who: &'a Requester,
    cross_signing: Option<CrossSigningRow>,
    /// The user's own cross-signing keys as they are to be.
    signed_master: Option<CanonicalJsonObject>,
    /// The user's own devices that were signed.
    signed_devices: BTreeSet<String>,
    changes_list: bool,
    log_rows: u16,
}

impl Keys {
    /// Takes signatures that a user has made. Each is judged by itself; those that are not taken are answered, with why.
    pub async fn upload_signatures(&self, who: &Requester, upload: &SignatureUpload) -> Result<Failures, KeysError> {
        if upload.values().map(BTreeMap::len).sum::<usize>() > MAX_SIGNED {
            return Err(KeysError::TooMuch(MAX_SIGNED));
        }
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let cross_signing = view.get::<tables::CrossSigning>(&(who.user_nid,)).await?;
            let mut writing = Writing {
                view,
                batch: Batch::new(),
                who,
                cross_signing,
                signed_master: None,
                signed_devices: BTreeSet::new(),
                changes_list: false,
                log_rows: 0,
            };
            let mut failures = Failures::new();
            for (user, keys) in upload {
                for (key_id, key) in keys {
                    let taken = if *user == who.user_id {
                        writing.sign_own(key_id, key).await?
                    } else {
                        let master = self.master_key_of(&writing.view, user).await?;
                        writing.sign_other(master, user, key_id, key).await?
                    };
                    if let Err(failure) = taken {
                        failures.entry(user.clone()).or_default().insert(key_id.clone(), failure);
                    }
                }
            }
            if writing.finish().await? {
                return Ok(failures);
            }
            let (changes_list, batch) = (writing.changes_list, writing.batch);
            if let Outcome::Done(position) = outcome(self.ground.storage.commit(batch).await)? {
                if changes_list {
                    self.lists.ring();
                }
                self.lists.wake(who.user_nid, position);
                return Ok(failures);
            }
        }
        Err(StoreError::Contended.into())
    }
}

impl Keys {
    /// Another user's master key: of another server's user, the one that was heard of last.
    async fn master_key_of(&self, view: &View, user: &UserId) -> Result<Option<CanonicalJsonObject>, StoreError> {
        let json = if self.accounts.is_local(user) {
            let Some(user) = self.accounts.nid(user).await? else { return Ok(None) };
            view.get::<tables::CrossSigning>(&(user,)).await?.and_then(|keys| keys.master)
        } else {
            view.get::<RemoteLists>(&(Text::new(user.as_str()),)).await?.and_then(|list| list.value.master)
        };
        Ok(json.map(|json| stored(&json)))
    }
}

impl Writing<'_> {
    /// Adds what comes once for all signatures. Whether there is nothing to write.
    async fn finish(&mut self) -> Result<bool, ReadError> {
        let mut changes: Vec<_> = self.signed_devices.iter().map(|device| Change::Device(device)).collect();
        if let (Some(master), Some(old)) = (self.signed_master.take(), &self.cross_signing) {
            changes.push(Change::CrossSigning);
            let row = CrossSigningRow { master: Some(signed::text(&master)), ..old.clone() };
            let key = (self.who.user_nid,);
            self.batch.assert_equals::<tables::CrossSigning>(&key, old).put::<tables::CrossSigning>(&key, &row);
            self.changes_list = true;
        }
        if self.changes_list {
            DeviceLists::change(&self.view, &mut self.batch, self.who.user_nid, &changes).await?;
        }
        Ok(self.batch.is_empty())
    }

    /// A signature of the user's own device or master key.
    async fn sign_own(
        &mut self,
        key_id: &str,
        key: &CanonicalJsonObject,
    ) -> Result<Result<(), SignatureFailure>, ReadError> {
        let master = self.cross_signing.as_ref().and_then(|keys| keys.master.as_deref()).map(stored);
        let master = self.signed_master.clone().or(master);
        if let Some(master) = master.filter(|master| public_key_of(master) == Some(key_id)) {
            return self.sign_own_master(master, key).await;
        }
        self.sign_own_device(key_id, key).await
    }

    async fn sign_own_master(
        &mut self,
        mut master: CanonicalJsonObject,
        key: &CanonicalJsonObject,
    ) -> Result<Result<(), SignatureFailure>, ReadError> {
        if signed::signed_part(&master) != signed::signed_part(key) {
            return Ok(Err(SignatureFailure::OtherKey));
        }
        let user = self.who.user_id.as_str();
        let mut taken = Vec::new();
        for (id, signature) in new_signatures(&master, key, user) {
            let device = id.strip_prefix("ed25519:").unwrap_or_default();
            let row = view_device(&self.view, self.who.user_nid, device).await?;
            let public = row.and_then(|row| ed25519_of(&stored(&row.json), device));
            if !public.is_some_and(|public| signed::verifies(key, signature, &public)) {
                return Ok(Err(SignatureFailure::BadSignature));
            }
            taken.push((id, signature));
        }
        if taken.is_empty() {
            return Ok(nothing_new(key, user));
        }
        signed::add_signatures(&mut master, user, taken);
        self.signed_master = Some(master);
        Ok(Ok(()))
    }

    async fn sign_own_device(
        &mut self,
        device: &str,
        key: &CanonicalJsonObject,
    ) -> Result<Result<(), SignatureFailure>, ReadError> {
        let (user, nid) = (self.who.user_id.as_str(), self.who.user_nid);
        let Some(row) = view_device(&self.view, nid, device).await? else {
            return Ok(Err(SignatureFailure::UnknownKey));
        };
        let mut keys = stored(&row.json);
        if signed::signed_part(&keys) != signed::signed_part(key) {
            return Ok(Err(SignatureFailure::OtherKey));
        }
        let taken: Vec<_> = new_signatures(&keys, key, user).collect();
        if taken.is_empty() {
            return Ok(nothing_new(key, user));
        }
        let own = self.cross_signing.as_ref().and_then(|keys| keys.self_signing.as_deref()).map(stored);
        let Some(public) = own.as_ref().and_then(public_key_of) else { return Ok(Err(SignatureFailure::NotYours)) };
        if !taken.iter().all(|(id, signature)| is_by(id, public) && signed::verifies(key, signature, public)) {
            return Ok(Err(SignatureFailure::BadSignature));
        }
        signed::add_signatures(&mut keys, user, taken);
        let at = (nid, Text::new(device));
        let signed = DeviceKeysRow { json: signed::text(&keys) };
        self.batch.assert_equals::<tables::DeviceKeys>(&at, &row).put::<tables::DeviceKeys>(&at, &signed);
        self.signed_devices.insert(device.to_owned());
        self.changes_list = true;
        Ok(Ok(()))
    }

    /// A signature of another user's master key. Only the one who signs sees it.
    async fn sign_other(
        &mut self,
        master: Option<CanonicalJsonObject>,
        user: &UserId,
        key_id: &str,
        key: &CanonicalJsonObject,
    ) -> Result<Result<(), SignatureFailure>, ReadError> {
        let Some(master) = master.filter(|master| public_key_of(master) == Some(key_id)) else {
            return Ok(Err(SignatureFailure::UnknownKey));
        };
        if signed::signed_part(&master) != signed::signed_part(key) {
            return Ok(Err(SignatureFailure::OtherKey));
        }
        let own = self.cross_signing.as_ref().and_then(|keys| keys.user_signing.as_deref()).map(stored);
        let Some(public) = own.as_ref().and_then(public_key_of) else { return Ok(Err(SignatureFailure::NotYours)) };
        let by = self.who.user_id.as_str();
        let signatures: Vec<_> = signed::signatures_of(key, by).collect();
        let good = |(id, signature): &(&str, &str)| is_by(id, public) && signed::verifies(key, signature, public);
        if signatures.is_empty() || !signatures.iter().all(good) {
            return Ok(Err(SignatureFailure::BadSignature));
        }
        let at = (self.who.user_nid, Text::new(user.as_str()));
        let old = self.view.get::<tables::KeySignatures>(&at).await?;
        let signatures = signatures.into_iter().map(|(id, signature)| (id.to_owned(), signature.to_owned())).collect();
        let log_index = FIRST_LOG_INDEX + 1 + self.log_rows;
        let row = KeySignaturesRow { master_key: key_id.to_owned(), signatures, log_index };
        if let Some(old) = &old {
            if row == (KeySignaturesRow { log_index, ..old.value.clone() }) {
                return Ok(Ok(()));
            }
            self.batch.delete::<UserLog>(&(self.who.user_nid, old.position, old.value.log_index));
        }
        self.log_rows += 1;
        self.batch.assert_unchanged::<tables::KeySignatures>(&at, old.as_ref());
        self.batch.put::<tables::KeySignatures>(&at, &Positioned::pending(row));
        let entry = UserLogEntry::DeviceList { user_id: Some(user.to_string()) };
        self.batch.put::<UserLog>(&(self.who.user_nid, StreamPosition::PENDING, log_index), &entry);
        Ok(Ok(()))
    }
}

async fn view_device(view: &View, user: UserNid, device: &str) -> Result<Option<DeviceKeysRow>, ReadError> {
    view.get::<tables::DeviceKeys>(&(user, Text::new(device))).await
}

fn ed25519_of(keys: &CanonicalJsonObject, device: &str) -> Option<String> {
    let keys = keys.get("keys").and_then(CanonicalJsonValue::as_object)?;
    keys.get(&format!("ed25519:{device}")).and_then(CanonicalJsonValue::as_str).map(ToOwned::to_owned)
}

fn is_by(key_id: &str, public: &str) -> bool {
    key_id.strip_prefix("ed25519:") == Some(public)
}

/// The signatures of a user that the known key doesn't have.
fn new_signatures<'a>(
    known: &CanonicalJsonObject,
    key: &'a CanonicalJsonObject,
    user: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let known: Vec<_> = signed::signatures_of(known, user).map(|(id, s)| (id.to_owned(), s.to_owned())).collect();
    signed::signatures_of(key, user).filter(move |(id, s)| !known.iter().any(|(i, k)| i == id && k == s))
}

/// What is there already is taken again; nothing at all is not.
fn nothing_new(key: &CanonicalJsonObject, user: &str) -> Result<(), SignatureFailure> {
    if signed::signatures_of(key, user).next().is_some() { Ok(()) } else { Err(SignatureFailure::BadSignature) }
}
