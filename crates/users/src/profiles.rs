//! Profiles: the display name, the avatar and any further fields (specification, "Profiles").

use std::sync::Arc;

use primitives::{StreamPosition, UserNid, canonical};
use ruma::{CanonicalJsonObject, CanonicalJsonValue, UserId};
use storage::{
    Batch, CommitError, Raw, Storage,
    schema::users::{self as tables, Life},
};

use crate::{
    accounts::Accounts,
    directory::UserDirectory,
    error::{MAX_ATTEMPTS, StoreError},
    options::ProfileSizes,
};

/// The largest profile, in bytes of canonical JSON.
pub const MAX_PROFILE_BYTES: usize = 64 * 1024;
/// The longest name of a field, in bytes.
pub const MAX_FIELD_NAME_BYTES: usize = 255;

/// Why a profile cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no such local user.
    #[error("no such user")]
    UnknownUser,
    /// The name of a field does not follow the specification's grammar.
    #[error("not the name of a profile field")]
    BadFieldName,
    /// The name of a field is longer than [`MAX_FIELD_NAME_BYTES`].
    #[error("the name of a profile field can have at most {MAX_FIELD_NAME_BYTES} bytes")]
    FieldNameTooLong,
    /// The value is of the wrong type.
    #[error("{0} must be {1}")]
    BadValue(&'static str, &'static str),
    /// The value is longer than this server allows.
    #[error("{0} can have at most {1} bytes")]
    ValueTooLong(&'static str, usize),
    /// The profile would be larger than [`MAX_PROFILE_BYTES`].
    #[error("a profile can have at most {MAX_PROFILE_BYTES} bytes")]
    TooLarge,
    /// An assert of the rider did not hold; nothing is stored.
    #[error("the rider's asserts do not hold")]
    RiderConflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user's profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile(pub CanonicalJsonObject);

impl Profile {
    /// The display name.
    pub fn display_name(&self) -> Option<&str> {
        self.0.get("displayname")?.as_str()
    }

    /// The avatar's `mxc:` URI.
    pub fn avatar_url(&self) -> Option<&str> {
        self.0.get("avatar_url")?.as_str()
    }

    /// Any field.
    pub fn field(&self, name: &str) -> Option<&CanonicalJsonValue> {
        self.0.get(name)
    }
}

/// How a change of a profile ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileChange {
    /// The profile before.
    pub before: Profile,
    /// The profile now.
    pub after: Profile,
    /// The position of the change; none if there was nothing to change, and the rider was not written either.
    pub position: Option<StreamPosition>,
}

/// Checks the name of a field: `displayname`, `avatar_url`, or the common namespaced identifier grammar.
pub fn check_field_name(name: &str) -> Result<(), ProfileError> {
    if name.len() > MAX_FIELD_NAME_BYTES {
        return Err(ProfileError::FieldNameTooLong);
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let namespaced =
        name.contains('.') && name.bytes().all(allowed) && name.starts_with(|first: char| first.is_ascii_lowercase());
    if namespaced || name == "displayname" || name == "avatar_url" { Ok(()) } else { Err(ProfileError::BadFieldName) }
}

/// The profiles of this server's users.
#[derive(Debug)]
pub struct Profiles {
    storage: Storage,
    accounts: Arc<Accounts>,
    directory: Arc<UserDirectory>,
    sizes: ProfileSizes,
}

impl Profiles {
    pub(crate) fn new(
        storage: Storage,
        accounts: Arc<Accounts>,
        directory: Arc<UserDirectory>,
        sizes: ProfileSizes,
    ) -> Self {
        Self { storage, accounts, directory, sizes }
    }

    /// The profile of a local user; empty if they have set nothing. None if there is no such local user, or no longer.
    pub async fn get(&self, user_id: &UserId) -> Result<Option<Profile>, StoreError> {
        let Some(user) = self.accounts.nid(user_id).await? else { return Ok(None) };
        let deactivated = self.accounts.row(user).await?.is_none_or(|row| row.life != Life::Active);
        let (_, profile) = self.read(user).await?;
        Ok(Some(profile).filter(|profile| !deactivated || !profile.0.is_empty()))
    }

    async fn read(&self, user: UserNid) -> Result<(Option<Raw>, Profile), StoreError> {
        let row = self.storage.view().get::<tables::Profiles>(&(user,)).await?;
        let profile = match &row {
            Some(Raw(bytes)) => parse(bytes)?,
            None => Profile::default(),
        };
        Ok((row, profile))
    }

    /// Sets a field. The rider is written with it.
    ///
    /// An empty display name or avatar URL removes the field, as clients expect.
    pub async fn set(
        &self,
        user: UserNid,
        name: &str,
        value: CanonicalJsonValue,
        rider: &Batch,
    ) -> Result<ProfileChange, ProfileError> {
        check_field_name(name)?;
        let value = self.check_value(name, value)?;
        self.change(user, rider, |profile| match &value {
            Some(value) => drop(profile.insert(name.to_owned(), value.clone())),
            None => drop(profile.remove(name)),
        })
        .await
    }

    /// Removes a field, if it is there. The rider is written with it.
    pub async fn remove(&self, user: UserNid, name: &str, rider: &Batch) -> Result<ProfileChange, ProfileError> {
        check_field_name(name)?;
        self.change(user, rider, |profile| drop(profile.remove(name))).await
    }

    /// The value to store; none to remove the field.
    fn check_value(&self, name: &str, value: CanonicalJsonValue) -> Result<Option<CanonicalJsonValue>, ProfileError> {
        let (name, longest) = match name {
            "displayname" => ("displayname", self.sizes.display_name_max_bytes),
            "avatar_url" => ("avatar_url", self.sizes.avatar_url_max_bytes),
            "m.tz" => ("m.tz", MAX_FIELD_NAME_BYTES),
            _ => return Ok(Some(value)),
        };
        match value {
            CanonicalJsonValue::Null if name != "m.tz" => Ok(None),
            CanonicalJsonValue::String(text) if text.is_empty() && name != "m.tz" => Ok(None),
            CanonicalJsonValue::String(text) if text.len() > longest => Err(ProfileError::ValueTooLong(name, longest)),
            CanonicalJsonValue::String(text) => Ok(Some(CanonicalJsonValue::String(text))),
            _ => Err(ProfileError::BadValue(name, "a string")),
        }
    }

    async fn change(
        &self,
        user: UserNid,
        rider: &Batch,
        change: impl Fn(&mut CanonicalJsonObject),
    ) -> Result<ProfileChange, ProfileError> {
        for _ in 0..MAX_ATTEMPTS {
            let account = self.accounts.row(user).await?.filter(|row| row.life == Life::Active);
            let account = account.ok_or(ProfileError::UnknownUser)?;
            let (row, before) = self.read(user).await?;
            let mut after = before.clone();
            change(&mut after.0);
            if after == before {
                return Ok(ProfileChange { before, after, position: None });
            }
            let bytes = canonical::to_bytes(&after.0);
            if bytes.len() > MAX_PROFILE_BYTES {
                return Err(ProfileError::TooLarge);
            }
            let mut batch = Batch::new();
            batch.assert_unchanged::<tables::Profiles>(&(user,), row.as_ref());
            batch.assert_equals::<tables::Accounts>(&(user,), &account);
            batch.put::<tables::Profiles>(&(user,), &Raw(bytes));
            let riders = batch.merge(rider.clone());
            match self.storage.commit(batch).await {
                Ok(position) => {
                    self.directory.changed(user);
                    return Ok(ProfileChange { before, after, position: Some(position) });
                }
                Err(CommitError::Conflict(index)) if riders.contains(&index) => {
                    return Err(ProfileError::RiderConflict);
                }
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(StoreError::Commit(error).into()),
            }
        }
        Err(StoreError::Contended.into())
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Profile, StoreError> {
    let corrupt = |e: canonical::CanonicalError| storage::CorruptValue { table: "profile", reason: e.to_string() };
    let object = canonical::parse_object(bytes).map_err(corrupt).map_err(storage::ReadError::from)?;
    Ok(Profile(object))
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;
    use storage::{Text, schema::meta::Counters};

    use super::*;
    use crate::testing::World;

    fn value(json: serde_json::Value) -> CanonicalJsonValue {
        serde_json::from_value(json).expect("canonical")
    }

    #[tokio::test]
    async fn fields_are_set_and_removed() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let profiles = world.users.profiles();
        let none = Batch::new();
        let empty = profiles.get(&bob.user_id).await.expect("read").expect("there");
        assert_eq!(empty, Profile::default());
        let change = profiles.set(bob.user_nid, "displayname", value(json!("Bob")), &none).await.expect("set");
        assert_eq!((change.before.display_name(), change.after.display_name()), (None, Some("Bob")));
        assert_eq!(change.position, Some(world.storage.position()));
        let change = profiles.set(bob.user_nid, "displayname", value(json!("Bob")), &none).await.expect("set");
        assert_eq!(change.position, None, "nothing changed");
        profiles.set(bob.user_nid, "avatar_url", value(json!("mxc://hs1/a")), &none).await.expect("set");
        profiles.set(bob.user_nid, "m.tz", value(json!("Europe/Berlin")), &none).await.expect("set");
        profiles.set(bob.user_nid, "org.example.x", value(json!({"deep": [1, null]})), &none).await.expect("set");
        let all = profiles.get(&bob.user_id).await.expect("read").expect("there");
        let text = String::from_utf8(canonical::to_bytes(&all.0)).expect("UTF-8");
        insta::assert_snapshot!(text, @r#"{"avatar_url":"mxc://hs1/a","displayname":"Bob","m.tz":"Europe/Berlin","org.example.x":{"deep":[1,null]}}"#);
        profiles.set(bob.user_nid, "displayname", value(json!("")), &none).await.expect("removed");
        profiles.remove(bob.user_nid, "avatar_url", &none).await.expect("removed");
        profiles.remove(bob.user_nid, "org.example.none", &none).await.expect("nothing to remove");
        let left = profiles.get(&bob.user_id).await.expect("read").expect("there");
        assert_eq!((left.display_name(), left.avatar_url(), left.0.len()), (None, None, 2));
        assert_eq!(profiles.get(user_id!("@nobody:hs1")).await.expect("read"), None);
        assert_eq!(profiles.get(user_id!("@bob:hs2")).await.expect("read"), None);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let world = World::new().await;
        let bob = world.user("bob").await.user_nid;
        let profiles = world.users.profiles();
        let none = Batch::new();
        let set = async |name: &str, json| profiles.set(bob, name, value(json), &none).await;
        assert!(matches!(set("displayname", json!(1)).await, Err(ProfileError::BadValue("displayname", _))));
        assert!(matches!(set("displayname", json!("x".repeat(257))).await, Err(ProfileError::ValueTooLong(_, 256))));
        assert!(matches!(set("avatar_url", json!("x".repeat(1001))).await, Err(ProfileError::ValueTooLong(_, 1000))));
        assert!(matches!(set("m.tz", json!(null)).await, Err(ProfileError::BadValue("m.tz", _))));
        assert!(matches!(set(&format!("a.{}", "b".repeat(254)), json!(1)).await, Err(ProfileError::FieldNameTooLong)));
        for bad in ["", "name", "A.b", ".a", "a b.c", "é.a", "1.a"] {
            assert!(matches!(set(bad, json!(1)).await, Err(ProfileError::BadFieldName)), "{bad}");
        }
        set("org.example.a", json!("x".repeat(40_000))).await.expect("fits");
        assert!(matches!(set("org.example.b", json!("x".repeat(40_000))).await, Err(ProfileError::TooLarge)));
        let unknown = profiles.set(UserNid(99), "displayname", value(json!("x")), &none).await;
        assert!(matches!(unknown, Err(ProfileError::UnknownUser)));
    }

    #[tokio::test]
    async fn a_rider_goes_with_the_change_or_neither_does() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let mut rider = Batch::new();
        let key = (Text::new("rider"),);
        rider.assert_absent::<Counters>(&key).put::<Counters>(&key, &1);
        let profiles = world.users.profiles();
        profiles.set(bob.user_nid, "displayname", value(json!("a")), &rider).await.expect("set");
        assert_eq!(world.storage.view().get::<Counters>(&key).await.expect("read"), Some(1));
        let refused = profiles.set(bob.user_nid, "displayname", value(json!("b")), &rider).await;
        assert!(matches!(refused, Err(ProfileError::RiderConflict)));
        let profile = profiles.get(&bob.user_id).await.expect("read").expect("there");
        assert_eq!(profile.display_name(), Some("a"));
    }

    #[tokio::test]
    async fn changes_at_once_are_all_kept() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let tracker = tokio_util::task::TaskTracker::new();
        for number in 0..8 {
            let (users, user) = (world.users.clone(), bob.user_nid);
            tracker.spawn(async move {
                let name = format!("org.example.f{number}");
                users.profiles().set(user, &name, value(json!(number)), &Batch::new()).await.expect("set");
            });
        }
        tracker.close();
        tracker.wait().await;
        assert_eq!(world.users.profiles().get(&bob.user_id).await.expect("read").expect("there").0.len(), 8);
    }
}
