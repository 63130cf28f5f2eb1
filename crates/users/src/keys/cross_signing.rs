//! Cross-signing keys are uploaded (`POST /keys/device_signing/upload`, MSC3967).

use ruma::{CanonicalJsonObject, CanonicalJsonValue};
use storage::{
    Batch, Text, View,
    schema::{
        keys::{self as tables, CrossSigningRow},
        users::Devices,
    },
};

use super::{DeviceLists, Keys, KeysError, outgoing::Change, signed, stored};
use crate::{
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    tokens::Requester,
};

/// The keys that a user uploads.
#[derive(Clone, Debug, Default)]
pub struct CrossSigningUpload {
    /// The master key.
    pub master: Option<CanonicalJsonObject>,
    /// The key that signs the user's devices.
    pub self_signing: Option<CanonicalJsonObject>,
    /// The key that signs other users' master keys.
    pub user_signing: Option<CanonicalJsonObject>,
}

/// Whether the one who asks has just shown that they are the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// They have a token.
    Token,
    /// They have gone through user-interactive authentication.
    Interactive,
}

impl Keys {
    /// Takes a user's cross-signing keys. The first ones, and those that are there already, need no authentication; others are
    /// [`KeysError::Unauthenticated`] without it. Doing it again changes nothing.
    ///
    /// A new master key takes the keys with it that the old one signed, unless they come signed by the new one.
    pub async fn upload_cross_signing(
        &self,
        who: &Requester,
        upload: &CrossSigningUpload,
        authentication: Authentication,
    ) -> Result<(), KeysError> {
        let user = who.user_id.as_str();
        let max = self.limits.key_max_bytes;
        let check = |key: &Option<CanonicalJsonObject>, usage| {
            key.clone().map(|key| checked(key, user, usage, max)).transpose()
        };
        let master = check(&upload.master, "master")?;
        let (self_signing, user_signing) =
            (check(&upload.self_signing, "self_signing")?, check(&upload.user_signing, "user_signing")?);
        for _ in 0..MAX_ATTEMPTS {
            let view = self.ground.storage.view();
            let old = view.get::<tables::CrossSigning>(&(who.user_nid,)).await?;
            let before = old.clone().unwrap_or_default();
            let mut after = before.clone();
            set(&mut after.master, master.as_ref());
            let master_now = after.master.as_deref().map(stored).ok_or(KeysError::NoMasterKey)?;
            let is_new_master = !same_key(before.master.as_deref(), after.master.as_deref());
            if is_new_master {
                (after.self_signing, after.user_signing) = (None, None);
            }
            for (key, place) in [(&self_signing, &mut after.self_signing), (&user_signing, &mut after.user_signing)] {
                if let Some(key) = key {
                    let public = public_key_of(&master_now).expect("checked before it was stored");
                    if !signed::is_signed(key, user, public, public) {
                        return Err(KeysError::BadSignature("a cross-signing key"));
                    }
                    set(place, Some(key));
                }
            }
            if after == before {
                return Ok(());
            }
            let same = |old: &CrossSigningRow, new: &CrossSigningRow| {
                same_key(old.master.as_deref(), new.master.as_deref())
                    && same_key(old.self_signing.as_deref(), new.self_signing.as_deref())
                    && same_key(old.user_signing.as_deref(), new.user_signing.as_deref())
            };
            if before.master.is_some() && !same(&before, &after) && authentication == Authentication::Token {
                return Err(KeysError::Unauthenticated);
            }
            self.check_ids(&view, who, [&master, &self_signing, &user_signing]).await?;
            let mut batch = Batch::new();
            batch.assert_unchanged::<tables::CrossSigning>(&(who.user_nid,), old.as_ref());
            batch.put::<tables::CrossSigning>(&(who.user_nid,), &after);
            DeviceLists::change(&view, &mut batch, who.user_nid, &[Change::CrossSigning]).await?;
            if let Outcome::Done(position) = outcome(self.ground.storage.commit(batch).await)? {
                self.lists.ring();
                self.lists.wake(who.user_nid, position);
                return Ok(());
            }
        }
        Err(StoreError::Contended.into())
    }

    /// Signatures name keys and devices in the same way: none may be named as another.
    async fn check_ids(
        &self,
        view: &View,
        who: &Requester,
        keys: [&Option<CanonicalJsonObject>; 3],
    ) -> Result<(), KeysError> {
        for public in keys.into_iter().flatten().filter_map(public_key_of) {
            if view.contains::<Devices>(&(who.user_nid, Text::new(public))).await? {
                return Err(KeysError::KeyIdInUse);
            }
        }
        Ok(())
    }
}

/// Puts a key in its place; if it is there already, with the signatures of both.
fn set(place: &mut Option<String>, key: Option<&CanonicalJsonObject>) {
    let Some(key) = key else { return };
    let mut merged = key.clone();
    if let Some(old) = place.as_deref().map(stored)
        && signed::signed_part(&old) == signed::signed_part(key)
    {
        let user = key.get("user_id").and_then(CanonicalJsonValue::as_str).unwrap_or_default();
        let all: Vec<_> = signed::signatures_of(&old, user).chain(signed::signatures_of(key, user)).collect();
        if !all.is_empty() {
            signed::add_signatures(&mut merged, user, all);
        }
    }
    *place = Some(signed::text(&merged));
}

/// Whether two keys are the same but for their signatures.
fn same_key(one: Option<&str>, other: Option<&str>) -> bool {
    let part = |json: &str| signed::signed_part(&stored(json));
    one.map(part) == other.map(part)
}

/// The public key of a cross-signing key, which is also its name.
pub(super) fn public_key_of(key: &CanonicalJsonObject) -> Option<&str> {
    let keys = key.get("keys").and_then(CanonicalJsonValue::as_object)?;
    let (_, public) = keys.iter().next().filter(|_| keys.len() == 1)?;
    public.as_str()
}

/// A cross-signing key as it is kept, if it has the right form.
pub(super) fn checked(
    key: CanonicalJsonObject,
    user: &str,
    usage: &str,
    max: usize,
) -> Result<CanonicalJsonObject, KeysError> {
    let malformed = |what: &str| KeysError::Malformed(format!("the {usage} key: {what}"));
    match key.get("user_id").and_then(CanonicalJsonValue::as_str) {
        Some(of) if of == user => {}
        Some(_) => return Err(KeysError::Foreign("user")),
        None => return Err(malformed("user_id is a string that has to be there")),
    }
    let usages = key.get("usage").and_then(CanonicalJsonValue::as_array);
    if !usages.is_some_and(|usages| usages.iter().any(|known| known.as_str() == Some(usage))) {
        return Err(malformed("its usage is another"));
    }
    let public = public_key_of(&key).ok_or_else(|| malformed("there has to be exactly one key"))?;
    let id = format!("ed25519:{public}");
    let named = key.get("keys").and_then(CanonicalJsonValue::as_object).is_some_and(|keys| keys.contains_key(&id));
    if !named || !signed::is_public_key(public) {
        return Err(malformed("the key is an ed25519 key in unpadded base64, and named as such"));
    }
    let key = signed::kept(key, user);
    if signed::text(&key).len() > max { Err(KeysError::TooLarge(max)) } else { Ok(key) }
}
