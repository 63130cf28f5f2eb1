//! What becomes of an account: locked, suspended, made administrator, given another password, deactivated.

use std::sync::Arc;

use primitives::UserNid;
use ruma::{DeviceId, OwnedDeviceId, UserId};
use storage::{
    Batch, CommitError, Storage,
    schema::{
        history::ThreadSubscriptions,
        users::{self as tables, AccountRow, Life},
    },
};

use crate::{
    account_data::AccountData,
    accounts::{Account, Accounts, Status},
    dehydrated::DehydratedDevices,
    devices::Devices,
    error::{MAX_ATTEMPTS, StoreError},
    filters::Filters,
    key_backup::KeyBackups,
    keys::Keys,
    passwords::{PasswordError, Passwords},
    presence::Presences,
    push_rules::PushRules,
    tokens::{Requester, Tokens},
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

/// Why somebody may not look after an account.
#[derive(Debug, thiserror::Error)]
pub enum ModerationError {
    /// Who asks is no administrator.
    #[error("only an administrator may do this")]
    NotAdmin,
    /// The account is another administrator's, or the own one is to be changed.
    #[error("this is an administrator's account")]
    Protected,
    /// The user is one of another server.
    #[error("not a user of this server")]
    NotLocal,
    /// There is no such account, or no longer.
    #[error("no such user")]
    UnknownUser,
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

    /// An account that an administrator looks after: not that of another administrator. Who is none learns nothing of any account.
    pub(crate) async fn looked_after(&self, by: &Requester, user_id: &UserId) -> Result<Account, ModerationError> {
        if !by.is_admin {
            return Err(ModerationError::NotAdmin);
        }
        if !self.accounts.is_local(user_id) {
            return Err(ModerationError::NotLocal);
        }
        let user = self.accounts.nid(user_id).await?.ok_or(ModerationError::UnknownUser)?;
        let account = self.accounts.get(user).await?.ok_or(ModerationError::UnknownUser)?;
        if account.status == Status::Deactivated {
            return Err(ModerationError::UnknownUser);
        }
        if account.is_admin && user != by.user_nid {
            return Err(ModerationError::Protected);
        }
        Ok(account)
    }

    /// Changes an account that an administrator looks after, which is not their own.
    pub(crate) async fn moderate(
        &self,
        by: &Requester,
        user_id: &UserId,
        change: Administration,
    ) -> Result<(), ModerationError> {
        let account = self.looked_after(by, user_id).await?;
        if account.is_admin {
            return Err(ModerationError::Protected);
        }
        if self.administer(account.user_nid, change).await? { Ok(()) } else { Err(ModerationError::UnknownUser) }
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

    /// Deactivates an account for ever. The rider is written in the batch that does it; sessions, filters, account data, push rules, key backups,
    /// thread subscriptions and, if the user
    /// is to be erased, the profile go after it. Doing it again does what was left undone. Answers which devices there were.
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
        AccountData::delete_in(&mut batch, user);
        PushRules::delete_in(&mut batch, user);
        KeyBackups::delete_in(&mut batch, user);
        DehydratedDevices::delete_in(&mut batch, user);
        batch.delete_prefix::<ThreadSubscriptions>(&(user,));
        Keys::delete_in(&mut batch, user);
        Presences::delete_in(&mut batch, user);
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
            if changed.life == Life::Erased && row.life != Life::Erased {
                self.accounts.count_erased(&mut batch).await?;
            }
            let riders = batch.merge(rider.clone());
            let changing = self.accounts.changing();
            let committed = self.storage.commit(batch).await;
            changing.end();
            match committed {
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
        LoginError, NewSession, RegisterError, Restrictions, Status,
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
    async fn administrators_look_after_all_but_each_other_and_nobody_else_does() {
        use ModerationError::{NotAdmin, NotLocal, Protected, UnknownUser};
        let world = World::new().await;
        let (root, other, bob) = (world.user("root").await, world.user("other").await, world.user("bob").await);
        for user in [&root, &other] {
            world.users.administer(user.user_nid, Administration::Admin(true)).await.expect("promoted");
        }
        let by = async |who: &crate::Registered| world.users.authenticate(&token(who)).await.expect("let in");
        let (root_asks, bob_asks) = (by(&root).await, by(&bob).await);
        let lock = async |by, id: &str| {
            let id = ruma::OwnedUserId::try_from(id).expect("a user id");
            world.users.moderate(by, &id, Administration::Locked(true)).await
        };
        for id in ["@bob:hs1", "@nobody:hs1", "@bob:elsewhere"] {
            assert!(matches!(lock(&bob_asks, id).await, Err(NotAdmin)), "{id}");
        }
        assert!(matches!(lock(&root_asks, "@bob:elsewhere").await, Err(NotLocal)));
        assert!(matches!(lock(&root_asks, "@nobody:hs1").await, Err(UnknownUser)));
        for id in ["@root:hs1", "@other:hs1"] {
            assert!(matches!(lock(&root_asks, id).await, Err(Protected)), "{id}");
        }
        assert!(world.users.looked_after(&root_asks, &root.user_id).await.is_ok(), "one's own may be looked at");
        assert!(matches!(world.users.looked_after(&root_asks, &other.user_id).await, Err(Protected)));
        lock(&root_asks, "@bob:hs1").await.expect("locked");
        let suspended = async || world.users.is_suspended(bob.user_nid).await.expect("read");
        assert!(!suspended().await);
        world.users.moderate(&root_asks, &bob.user_id, Administration::Suspended(true)).await.expect("suspended");
        assert!(!suspended().await, "the lock counts");
        world.users.moderate(&root_asks, &bob.user_id, Administration::Locked(false)).await.expect("unlocked");
        assert!(suspended().await && suspended().await);
        lock(&root_asks, "@bob:hs1").await.expect("locked");
        assert!(!suspended().await);
        let account = world.users.looked_after(&root_asks, &bob.user_id).await.expect("looked at");
        assert_eq!(account.restrictions, Restrictions { locked: true, suspended: true });
        assert_eq!(account.status, Status::Locked);
        assert!(world.users.authenticate(&token(&bob)).await.is_err());
        world.users.deactivate(bob.user_nid, false, &Batch::new()).await.expect("deactivated");
        assert!(matches!(lock(&root_asks, "@bob:hs1").await, Err(UnknownUser)));
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
        assert!(!world.users.any_erased() && !world.users.is_erased(&bob.user_id).await.expect("read"));
        let mut rider = Batch::new();
        let key = (Text::new("job"),);
        rider.assert_absent::<Counters>(&key).put::<Counters>(&key, &1);
        let devices = world.users.deactivate(bob.user_nid, true, &rider).await.expect("deactivated");
        assert_eq!(devices.len(), 1);
        assert!(world.users.any_erased() && world.users.is_erased(&bob.user_id).await.expect("read"));
        assert!(world.reopened().await.is_erased(&bob.user_id).await.expect("read"));
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
