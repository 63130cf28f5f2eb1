//! What becomes of an account: locked, suspended, made administrator, given another password, deactivated.

use std::sync::Arc;

use primitives::UserNid;
use ruma::{DeviceId, OwnedDeviceId};
use storage::{
    Batch, CommitError, Storage,
    schema::users::{self as tables, AccountRow, Life},
};

use crate::{
    accounts::Accounts,
    devices::Devices,
    error::{MAX_ATTEMPTS, StoreError},
    filters::Filters,
    passwords::{PasswordError, Passwords},
    tokens::Tokens,
};

/// What an administrator decides about an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Administration {
    /// May use the administration API, or may no longer.
    Admin(bool),
    /// Locked or not.
    Locked(bool),
    /// Suspended or not.
    Suspended(bool),
}

/// Whose sessions end when the password changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOut<'a> {
    /// No session ends.
    Nobody,
    /// All but that of one device, the one that asks.
    Others(&'a DeviceId),
    /// All.
    Everybody,
}

/// Why a password is not changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswordChangeError {
    /// There is no such account, or no longer.
    #[error("no such user")]
    UnknownUser,
    /// The password cannot be used, or too many are being hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an account is not deactivated.
#[derive(Debug, thiserror::Error)]
pub enum DeactivateError {
    /// There is no such account.
    #[error("no such user")]
    UnknownUser,
    /// An assert of the rider did not hold; nothing is stored.
    #[error("the rider's asserts do not hold")]
    RiderConflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Changes what accounts may do, and ends the sessions that it ends.
#[derive(Debug)]
pub(crate) struct AccountChanges {
    storage: Storage,
    accounts: Arc<Accounts>,
    devices: Arc<Devices>,
    tokens: Arc<Tokens>,
    passwords: Passwords,
}

impl AccountChanges {
    pub(crate) fn new(
        storage: Storage,
        accounts: Arc<Accounts>,
        devices: Arc<Devices>,
        tokens: Arc<Tokens>,
        passwords: Passwords,
    ) -> Self {
        Self { storage, accounts, devices, tokens, passwords }
    }

    /// Changes an account; its next request is judged by the change. Answers whether there is such an account.
    pub(crate) async fn administer(&self, user: UserNid, change: Administration) -> Result<bool, StoreError> {
        let apply = |row: &mut AccountRow| match change {
            Administration::Admin(admin) => row.admin = admin,
            Administration::Locked(locked) => row.locked = locked,
            Administration::Suspended(suspended) => row.suspended = suspended,
        };
        let changed = self.accounts.change(user, &Batch::new(), apply).await?;
        self.tokens.forget(&self.devices.access_tokens(user).await?);
        Ok(changed)
    }

    /// Gives an account another password. Answers which sessions have ended with it.
    pub(crate) async fn set_password(
        &self,
        user: UserNid,
        password: &str,
        log_out: LogOut<'_>,
    ) -> Result<Vec<OwnedDeviceId>, PasswordChangeError> {
        let hash = self.passwords.hash(password).await?;
        if self.accounts.row(user).await?.is_none_or(|row| row.life != Life::Active) {
            return Err(PasswordChangeError::UnknownUser);
        }
        // A deactivated account stays without a password, whoever is faster.
        let set = |row: &mut AccountRow| row.password_hash = Some(hash.clone()).filter(|_| row.life == Life::Active);
        if !self.accounts.change(user, &Batch::new(), set).await? {
            return Err(PasswordChangeError::UnknownUser);
        }
        match log_out {
            LogOut::Nobody => Ok(Vec::new()),
            LogOut::Others(keep) => Ok(self.devices.delete_all(user, Some(keep)).await?),
            LogOut::Everybody => Ok(self.devices.delete_all(user, None).await?),
        }
    }

    /// Deactivates an account for ever. The rider is written in the batch that does it; sessions, filters and, if the user is to be erased, the
    /// profile go after it. Doing it again does what was left undone. Answers which devices there were.
    pub(crate) async fn deactivate(
        &self,
        user: UserNid,
        erase: bool,
        rider: &Batch,
    ) -> Result<Vec<OwnedDeviceId>, DeactivateError> {
        self.mark_deactivated(user, erase, rider).await?;
        let devices = self.devices.delete_all(user, None).await?;
        let mut batch = Batch::new();
        Filters::delete_in(&mut batch, user);
        if erase {
            batch.delete::<tables::Profiles>(&(user,));
        }
        self.storage.commit(batch).await.map_err(StoreError::Commit)?;
        Ok(devices)
    }

    async fn mark_deactivated(&self, user: UserNid, erase: bool, rider: &Batch) -> Result<(), DeactivateError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(row) = self.accounts.row(user).await? else { return Err(DeactivateError::UnknownUser) };
            let mut changed = row.clone();
            changed.life = row.life.max(if erase { Life::Erased } else { Life::Deactivated });
            changed.password_hash = None;
            let mut batch = Batch::new();
            batch.assert_equals::<tables::Accounts>(&(user,), &row).put::<tables::Accounts>(&(user,), &changed);
            let riders = batch.merge(rider.clone());
            match self.storage.commit(batch).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict(index)) if riders.contains(&index) => {
                    return Err(DeactivateError::RiderConflict);
                }
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(StoreError::Commit(error).into()),
            }
        }
        Err(StoreError::Contended.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use storage::{Text, schema::meta::Counters};

    use super::*;
    use crate::{
        LoginError, NewSession, RegisterError, Status,
        testing::{World, account, device, token},
    };

    #[tokio::test]
    async fn another_password_ends_the_other_sessions_if_wished() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let own = bob.session.as_ref().expect("a session").device_id.clone();
        let other = world.login("bob", "secret", device("A")).await.expect("logged in").session.tokens;
        world.users.set_password(bob.user_nid, "second", LogOut::Nobody).await.expect("set");
        assert!(world.users.authenticate(&other.access_token).await.is_ok());
        let ended = world.users.set_password(bob.user_nid, "third", LogOut::Others(&own)).await.expect("set");
        assert_eq!(ended, ["A"]);
        assert!(world.users.authenticate(&other.access_token).await.is_err());
        assert!(world.users.authenticate(&token(&bob)).await.is_ok());
        for old in ["secret", "second"] {
            assert!(matches!(world.login("bob", old, NewSession::default()).await, Err(LoginError::BadCredentials)));
        }
        assert!(world.login("bob", "third", NewSession::default()).await.is_ok());
        let empty = world.users.set_password(bob.user_nid, "", LogOut::Nobody).await;
        assert!(matches!(empty, Err(PasswordChangeError::Password(PasswordError::Empty))));
        let nobody = world.users.set_password(UserNid(99), "x", LogOut::Nobody).await;
        assert!(matches!(nobody, Err(PasswordChangeError::UnknownUser)));
    }

    #[tokio::test]
    async fn deactivation_takes_everything_and_keeps_the_name() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let name = serde_json::from_value(json!("Bob")).expect("canonical");
        world.users.profiles().set(bob.user_nid, "displayname", name, &Batch::new()).await.expect("set");
        let filter =
            world.users.filters().store(bob.user_nid, &ruma::CanonicalJsonObject::new()).await.expect("stored");
        assert!(world.users.authenticate(&token(&bob)).await.is_ok());
        let mut rider = Batch::new();
        let key = (Text::new("job"),);
        rider.assert_absent::<Counters>(&key).put::<Counters>(&key, &1);
        let devices = world.users.deactivate(bob.user_nid, true, &rider).await.expect("deactivated");
        assert_eq!(devices.len(), 1);
        assert_eq!(world.storage.view().get::<Counters>(&key).await.expect("read"), Some(1));
        assert!(world.users.authenticate(&token(&bob)).await.is_err());
        assert!(matches!(world.users.register(account("bob")).await, Err(RegisterError::UserInUse)));
        let bobs = world.users.account(bob.user_nid).await.expect("read").expect("there");
        assert_eq!((bobs.status, bobs.has_password, bobs.erased), (Status::Deactivated, false, true));
        assert_eq!(world.users.profiles().get(&bob.user_id).await.expect("read"), None);
        assert_eq!(world.users.filters().get(bob.user_nid, &filter).await.expect("read"), None);
        let password = world.users.set_password(bob.user_nid, "new", LogOut::Nobody).await;
        assert!(matches!(password, Err(PasswordChangeError::UnknownUser)));
        let again = world.users.deactivate(bob.user_nid, false, &rider).await;
        assert!(matches!(again, Err(DeactivateError::RiderConflict)));
        assert!(world.users.deactivate(bob.user_nid, false, &Batch::new()).await.expect("again").is_empty());
    }
}
