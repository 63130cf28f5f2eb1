//! Accounts: numbers, names, and what an administrator decides about them.

mod suspended;

use std::sync::atomic::{AtomicBool, Ordering};

use primitives::{UnixMillis, UserNid};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use storage::{
    Batch, Storage, Text, View,
    schema::{
        meta::Counters,
        users::{self as tables, AccountKind, AccountRow, Life},
    },
};

use crate::error::{MAX_ATTEMPTS, Outcome, StoreError, outcome};
pub(crate) use suspended::Changing;
use suspended::Suspended;

/// The name of the counter of users who asked to be erased.
const ERASED_USERS: &str = "erased_user";

/// Users whose number is kept in memory.
const CACHED_NUMBERS: usize = 20_000;

/// An account, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user id.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user_nid: UserNid,
    /// May use the administration API.
    pub is_admin: bool,
    /// What kind of account it is. A guest is limited to the endpoints that the specification opens to guests.
    pub kind: AccountKind,
    /// When it was registered.
    pub created: UnixMillis,
    /// Can log in by password.
    pub has_password: bool,
    /// What the account may do: the strictest that applies.
    pub status: Status,
    /// What administrators have done to it.
    pub restrictions: Restrictions,
    /// The user asked for what they wrote to be hidden from those who have not seen it.
    pub erased: bool,
    /// A label that the registration over the shared secret may give.
    pub user_type: Option<String>,
}

/// What administrators have done to an account. Both at once is possible: the lock counts then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restrictions {
    /// It is locked.
    pub locked: bool,
    /// It is suspended.
    pub suspended: bool,
}

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Everything.
    Active,
    /// Read, leave, log out; not write (specification, "Account suspension").
    Suspended,
    /// Log out only (specification, "Account locking").
    Locked,
    /// Nothing, for ever.
    Deactivated,
}

/// The status in an account's row: the strictest that applies.
pub(crate) fn status(row: &AccountRow) -> Status {
    match row {
        AccountRow { life: Life::Deactivated | Life::Erased, .. } => Status::Deactivated,
        AccountRow { locked: true, .. } => Status::Locked,
        AccountRow { suspended: true, .. } => Status::Suspended,
        _ => Status::Active,
    }
}

/// The accounts of this server.
#[derive(Debug)]
pub struct Accounts {
    storage: Storage,
    server_name: OwnedServerName,
    numbers: Cache<Box<str>, UserNid>,
    ids: Cache<UserNid, OwnedUserId>,
    /// Some user may have asked to be erased. While none has, nobody needs to be looked up for it.
    any_erased: AtomicBool,
    suspended: Suspended,
}

impl Accounts {
    /// The accounts in this store, of a server of this name.
    pub fn new(storage: Storage, server_name: OwnedServerName) -> Self {
        let (numbers, ids) = (Cache::new(CACHED_NUMBERS), Cache::new(CACHED_NUMBERS));
        let (any_erased, suspended) = (AtomicBool::new(true), Suspended::new());
        Self { storage, server_name, numbers, ids, any_erased, suspended }
    }

    /// Looks whether any user has asked to be erased.
    pub(crate) async fn prepare(&self) -> Result<(), StoreError> {
        let erased = self.storage.view().get::<Counters>(&(Text::new(ERASED_USERS),)).await?;
        self.any_erased.store(erased.is_some(), Ordering::Release);
        Ok(())
    }

    /// Whether any user may have asked to be erased.
    pub(crate) fn any_erased(&self) -> bool {
        self.any_erased.load(Ordering::Acquire)
    }

    /// Whether a user of this server has asked for what they wrote to be hidden from those who have not seen it.
    pub async fn is_erased(&self, user_id: &UserId) -> Result<bool, StoreError> {
        if !self.any_erased() {
            return Ok(false);
        }
        let Some(user) = self.nid(user_id).await? else { return Ok(false) };
        Ok(self.row(user).await?.is_some_and(|row| row.life == Life::Erased))
    }

    /// Counts one more user who asks to be erased, in the batch that says so.
    pub(crate) async fn count_erased(&self, batch: &mut Batch) -> Result<(), StoreError> {
        let key = (Text::new(ERASED_USERS),);
        let erased = self.storage.view().get::<Counters>(&key).await?;
        batch.assert_unchanged::<Counters>(&key, erased.as_ref());
        batch.put::<Counters>(&key, &(erased.unwrap_or(0) + 1));
        // Before the commit: whoever looks too early looks in vain, and nobody too late.
        self.any_erased.store(true, Ordering::Release);
        Ok(())
    }

    /// The name of this server.
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// Whether a user is one of this server's, registered or not.
    pub fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.server_name
    }

    /// The number of a local account. None for users of other servers and for names that nobody has registered.
    pub async fn nid(&self, user_id: &UserId) -> Result<Option<UserNid>, StoreError> {
        if !self.is_local(user_id) {
            return Ok(None);
        }
        self.nid_of(&self.storage.view(), user_id.localpart()).await
    }

    /// The number of the account with this local part.
    pub(crate) async fn nid_of(&self, view: &View, localpart: &str) -> Result<Option<UserNid>, StoreError> {
        if let Some(nid) = self.numbers.get(localpart) {
            return Ok(Some(nid));
        }
        let nid = view.get::<tables::AccountNames>(&(Text::new(localpart),)).await?;
        if let Some(nid) = nid {
            self.numbers.insert(localpart.into(), nid);
        }
        Ok(nid)
    }

    /// The user id of an account's number.
    pub async fn user_id(&self, user: UserNid) -> Result<Option<OwnedUserId>, StoreError> {
        if let Some(id) = self.ids.get(&user) {
            return Ok(Some(id));
        }
        let Some(row) = self.row(user).await? else { return Ok(None) };
        let id = self.id_of(&row.localpart);
        self.ids.insert(user, id.clone());
        Ok(Some(id))
    }

    /// The user id of a local part that an account has.
    pub(crate) fn id_of(&self, localpart: &str) -> OwnedUserId {
        let id = UserId::parse(format!("@{localpart}:{}", self.server_name));
        id.expect("the local part of an account makes a user id")
    }

    /// An account.
    pub async fn get(&self, user: UserNid) -> Result<Option<Account>, StoreError> {
        let row = self.row(user).await?;
        Ok(row.map(|row| Account {
            user_id: self.id_of(&row.localpart),
            user_nid: user,
            is_admin: row.admin,
            kind: row.kind,
            created: row.created,
            has_password: row.password_hash.is_some(),
            status: status(&row),
            restrictions: Restrictions { locked: row.locked, suspended: row.suspended },
            erased: row.life == Life::Erased,
            user_type: row.user_type,
        }))
    }

    /// Whether an account is suspended, and neither locked nor deactivated besides.
    pub async fn is_suspended(&self, user: UserNid) -> Result<bool, StoreError> {
        let moment = self.suspended.moment();
        if let Some(known) = self.suspended.get(user, moment) {
            return Ok(known);
        }
        let suspended = self.row(user).await?.is_some_and(|row| status(&row) == Status::Suspended);
        self.suspended.remember(user, moment, suspended);
        Ok(suspended)
    }

    /// Announces a commit that may change what an account may do.
    pub(crate) fn changing(&self) -> Changing<'_> {
        self.suspended.changing()
    }

    pub(crate) async fn row(&self, user: UserNid) -> Result<Option<AccountRow>, StoreError> {
        Ok(self.storage.view().get::<tables::Accounts>(&(user,)).await?)
    }

    /// Changes an account's row. Answers whether there is one.
    pub(crate) async fn change(
        &self,
        user: UserNid,
        rider: &Batch,
        change: impl Fn(&mut AccountRow),
    ) -> Result<bool, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some(row) = self.row(user).await? else { return Ok(false) };
            let mut changed = row.clone();
            change(&mut changed);
            let mut batch = Batch::new();
            batch.assert_equals::<tables::Accounts>(&(user,), &row).put::<tables::Accounts>(&(user,), &changed);
            batch.merge(rider.clone());
            let changing = self.changing();
            let committed = self.storage.commit(batch).await;
            changing.end();
            if let Outcome::Done(_) = outcome(committed)? {
                return Ok(true);
            }
        }
        Err(StoreError::Contended)
    }
}
