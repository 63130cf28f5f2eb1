//! Access and refresh tokens: made, checked, renewed, forgotten.
//!
//! A token is 32 random bytes; only its SHA-256 is stored. A device holds at most two pairs of tokens: those issued last and, after a refresh,
//! those before, which die when one of the new ones is first used (specification, "Refreshing access tokens").

#[cfg(test)]
mod model;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use primitives::{UnixMillis, UserNid};
use quick_cache::sync::Cache;
use ruma::{OwnedDeviceId, OwnedUserId};
use sha2::{Digest, Sha256};
use storage::{
    Batch, Text,
    schema::users::{self as tables, AccessTokenRow, AccountKind, DeviceRow, RefreshTokenRow, TokenPair},
};

use crate::{
    accounts::{Accounts, Status, status},
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    ground::Ground,
};

/// What access tokens begin with.
const ACCESS_PREFIX: &str = "sua_";
/// What refresh tokens begin with.
const REFRESH_PREFIX: &str = "sur_";
/// Access tokens that are kept in memory.
const CACHED_TOKENS: usize = 20_000;

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user_nid: UserNid,
    /// The device that the access token belongs to.
    pub device_id: Option<OwnedDeviceId>,
    /// Limited to the endpoints that the specification opens to guests.
    pub is_guest: bool,
    /// May use the administration API.
    pub is_admin: bool,
    /// May read but not write.
    pub is_suspended: bool,
    /// A random number that stands for the access token.
    pub token_id: u64,
}

/// Why a request is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no token, or an empty one.
    #[error("missing access token")]
    Missing,
    /// The token is not, or no longer, valid.
    #[error("unknown or expired access token")]
    Unknown {
        /// The session is still there: the client may refresh or log in again and keep its keys.
        soft_logout: bool,
    },
    /// The account is locked.
    #[error("this account has been locked")]
    Locked,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// New tokens, to be handed to the client. This is the only time that they are seen.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedTokens {
    /// The access token.
    pub access_token: String,
    /// The refresh token, if the client can refresh.
    pub refresh_token: Option<String>,
    /// How long the access token is valid; none for ever.
    pub expires_in: Option<Duration>,
}

impl std::fmt::Debug for IssuedTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedTokens").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// How long tokens live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    /// An access token whose client can refresh it.
    pub(crate) access: Duration,
    /// A refresh token; none for ever.
    pub(crate) refresh: Option<Duration>,
}

/// What is known of a valid token.
#[derive(Debug)]
struct Known {
    requester: Requester,
    locked: bool,
    expires: Option<UnixMillis>,
}

/// The tokens of all devices.
#[derive(Debug)]
pub(crate) struct Tokens {
    ground: Ground,
    accounts: Arc<Accounts>,
    lifetimes: Lifetimes,
    /// Valid tokens whose device has no older ones left.
    known: Cache<[u8; 32], Arc<Known>>,
    /// Counts revocations. Held while `known` is filled or emptied, so that nothing read before a revocation is remembered after it.
    revocations: Mutex<u64>,
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Tokens {
    pub(crate) fn new(ground: Ground, accounts: Arc<Accounts>, lifetimes: Lifetimes) -> Self {
        let known = Cache::new(CACHED_TOKENS);
        Self { ground, accounts, lifetimes, known, revocations: Mutex::new(0) }
    }

    /// Makes tokens for a device: their rows go into the batch, the pair belongs into the device's row.
    pub(crate) fn issue(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device: &str,
        refreshable: bool,
    ) -> (TokenPair, IssuedTokens) {
        let now = self.ground.clock.now();
        let access_token = format!("{ACCESS_PREFIX}{}", self.ground.random.token::<32>());
        let refresh_token = refreshable.then(|| format!("{REFRESH_PREFIX}{}", self.ground.random.token::<32>()));
        let expires_in = refreshable.then_some(self.lifetimes.access);
        let pair = TokenPair { access: hash(&access_token), refresh: refresh_token.as_deref().map(hash) };
        let expires = expires_in.map(|span| now.plus(span));
        let row = AccessTokenRow { user, device: device.to_owned(), id: self.ground.random.u64(), expires };
        batch.put::<tables::AccessTokens>(&(pair.access,), &row);
        if let Some(refresh) = pair.refresh {
            let expires = self.lifetimes.refresh.map(|span| now.plus(span));
            batch.put::<tables::RefreshTokens>(
                &(refresh,),
                &RefreshTokenRow { user, device: device.to_owned(), expires },
            );
        }
        (pair, IssuedTokens { access_token, refresh_token, expires_in })
    }

    /// Lets a request in.
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Requester, AuthError> {
        let known = self.identify(token).await?;
        if known.locked { Err(AuthError::Locked) } else { Ok(known.requester.clone()) }
    }

    /// Lets a request in that logs out: a locked account may do that too.
    pub(crate) async fn authenticate_to_log_out(&self, token: &str) -> Result<Requester, AuthError> {
        Ok(self.identify(token).await?.requester.clone())
    }

    /// Whether somebody who was let in has still a session: their account is in use and not locked, and the device is there.
    pub(crate) async fn check_still_in(&self, requester: &Requester) -> Result<(), AuthError> {
        let view = self.ground.storage.view();
        let account = view.get::<tables::Accounts>(&(requester.user_nid,)).await.map_err(StoreError::from)?;
        let device = match &requester.device_id {
            None => true,
            Some(device) => {
                let key = (requester.user_nid, Text::new(device.as_str()));
                view.contains::<tables::Devices>(&key).await.map_err(StoreError::from)?
            }
        };
        match account.as_ref().map(status) {
            Some(Status::Locked) if device => Err(AuthError::Locked),
            Some(Status::Active | Status::Suspended) if device => Ok(()),
            _ => Err(AuthError::Unknown { soft_logout: false }),
        }
    }

    async fn identify(&self, token: &str) -> Result<Arc<Known>, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if !token.starts_with(ACCESS_PREFIX) {
            return Err(AuthError::Unknown { soft_logout: false });
        }
        let hash = hash(token);
        let known = match self.known.get(&hash) {
            Some(known) => known,
            None => self.load(hash).await?.ok_or(AuthError::Unknown { soft_logout: false })?,
        };
        if known.expires.is_some_and(|at| at <= self.ground.clock.now()) {
            return Err(AuthError::Unknown { soft_logout: true });
        }
        Ok(known)
    }

    /// Reads a token from the store. The first use of one that a refresh issued ends those before it.
    async fn load(&self, hash: [u8; 32]) -> Result<Option<Arc<Known>>, StoreError> {
        for _ in 0..MAX_ATTEMPTS {
            let revocations = *self.revocations.lock();
            let view = self.ground.storage.view();
            let Some(token) = view.get::<tables::AccessTokens>(&(hash,)).await? else { return Ok(None) };
            let key = (token.user, Text::new(&token.device));
            let Some(device) = view.get::<tables::Devices>(&key).await? else { return Ok(None) };
            let account = view.get::<tables::Accounts>(&(token.user,)).await?;
            let Some(account) = account.filter(|row| status(row) != Status::Deactivated) else { return Ok(None) };
            let is_current = device.current.as_ref().is_some_and(|pair| pair.access == hash);
            if is_current && device.previous.is_some() {
                self.confirm(&key, &device).await?;
                continue;
            }
            if !is_current && device.previous.as_ref().is_none_or(|pair| pair.access != hash) {
                return Ok(None);
            }
            let requester = Requester {
                user_id: self.accounts.id_of(&account.localpart),
                user_nid: token.user,
                device_id: Some(token.device.into()),
                is_guest: account.kind == AccountKind::Guest,
                is_admin: account.admin,
                is_suspended: account.suspended,
                token_id: token.id,
            };
            let known = Arc::new(Known { requester, locked: account.locked, expires: token.expires });
            self.remember(hash, &known, revocations);
            return Ok(Some(known));
        }
        Err(StoreError::Contended)
    }

    /// Ends the tokens before a refresh, unless somebody else has just changed the device.
    async fn confirm(&self, key: &(UserNid, Text), device: &DeviceRow) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.assert_equals::<tables::Devices>(key, device);
        batch.put::<tables::Devices>(key, &DeviceRow { previous: None, ..device.clone() });
        let ended: Vec<_> = device.previous.iter().map(|pair| revoke(&mut batch, pair)).collect();
        if let Outcome::Done(_) = outcome(self.ground.storage.commit(batch).await)? {
            self.forget(&ended);
        }
        Ok(())
    }

    fn remember(&self, hash: [u8; 32], known: &Arc<Known>, revocations: u64) {
        let guard = self.revocations.lock();
        if *guard == revocations {
            self.known.insert(hash, Arc::clone(known));
        }
    }

    /// Drops access tokens from memory, after the batch that ends or changes them is committed.
    pub(crate) fn forget(&self, hashes: &[[u8; 32]]) {
        let mut guard = self.revocations.lock();
        *guard += 1;
        for hash in hashes {
            self.known.remove(hash);
        }
    }

    /// Renews the tokens of a session. The old ones stay valid until one of the new ones is used; a client that never got the new ones may
    /// ask again.
    pub(crate) async fn refresh(&self, token: &str) -> Result<IssuedTokens, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if !token.starts_with(REFRESH_PREFIX) {
            return Err(AuthError::Unknown { soft_logout: false });
        }
        let hash = hash(token);
        for _ in 0..MAX_ATTEMPTS {
            if let Outcome::Done(issued) = self.try_refresh(hash).await? {
                return Ok(issued);
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn try_refresh(&self, hash: [u8; 32]) -> Result<Outcome<IssuedTokens>, AuthError> {
        const UNKNOWN: AuthError = AuthError::Unknown { soft_logout: false };
        let view = self.ground.storage.view();
        let token = view.get::<tables::RefreshTokens>(&(hash,)).await.map_err(StoreError::from)?.ok_or(UNKNOWN)?;
        let key = (token.user, Text::new(&token.device));
        let device = view.get::<tables::Devices>(&key).await.map_err(StoreError::from)?.ok_or(UNKNOWN)?;
        let account = view.get::<tables::Accounts>(&(token.user,)).await.map_err(StoreError::from)?.ok_or(UNKNOWN)?;
        match status(&account) {
            Status::Deactivated => return Err(UNKNOWN),
            Status::Locked => return Err(AuthError::Locked),
            Status::Active | Status::Suspended => {}
        }
        if token.expires.is_some_and(|at| at <= self.ground.clock.now()) {
            return Err(AuthError::Unknown { soft_logout: true });
        }
        let is = |pair: &Option<TokenPair>| pair.as_ref().is_some_and(|pair| pair.refresh == Some(hash));
        // The pair that stays until the new one is used, and the one that goes now.
        let (kept, ended) = if is(&device.current) {
            (&device.current, &device.previous)
        } else if is(&device.previous) {
            (&device.previous, &device.current)
        } else {
            return Err(UNKNOWN);
        };
        let mut batch = Batch::new();
        batch.assert_equals::<tables::Devices>(&key, &device);
        batch.assert_equals::<tables::Accounts>(&(token.user,), &account);
        let ended: Vec<_> = ended.iter().map(|pair| revoke(&mut batch, pair)).collect();
        let (pair, issued) = self.issue(&mut batch, token.user, &token.device, true);
        let renewed = DeviceRow { current: Some(pair), previous: kept.clone(), ..device.clone() };
        batch.put::<tables::Devices>(&key, &renewed);
        let done = outcome(self.ground.storage.commit(batch).await)?;
        if let Outcome::Done(_) = done {
            self.forget(&ended);
            return Ok(Outcome::Done(issued));
        }
        Ok(Outcome::Again)
    }
}

/// Ends a pair of tokens. Answers which access token is to be forgotten once the batch is committed.
pub(crate) fn revoke(batch: &mut Batch, pair: &TokenPair) -> [u8; 32] {
    batch.delete::<tables::AccessTokens>(&(pair.access,));
    if let Some(refresh) = pair.refresh {
        batch.delete::<tables::RefreshTokens>(&(refresh,));
    }
    pair.access
}

/// The access tokens of a device.
pub(crate) fn access_tokens(device: &DeviceRow) -> impl Iterator<Item = [u8; 32]> + '_ {
    device.current.iter().chain(&device.previous).map(|pair| pair.access)
}

#[cfg(test)]
mod tests {
    use primitives::Random;

    use super::*;
    use crate::{
        Administration, NewSession, Options, Users,
        testing::{World, device, options, token},
    };

    fn refreshable(id: &str) -> NewSession {
        NewSession { refresh_token: true, ..device(id) }
    }

    async fn soft_logout(users: &Users, token: &str) -> Option<bool> {
        match users.authenticate(token).await {
            Ok(_) => None,
            Err(AuthError::Unknown { soft_logout }) => Some(soft_logout),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn what_is_no_token_is_refused() {
        let world = World::new().await;
        world.user("bob").await;
        assert!(matches!(world.users.authenticate("").await, Err(AuthError::Missing)));
        assert!(matches!(world.users.refresh("").await, Err(AuthError::Missing)));
        for bad in ["x", "sua_", "sua_x", "sur_x", "invalidAccessToken"] {
            assert_eq!(soft_logout(&world.users, bad).await, Some(false), "{bad}");
            assert!(matches!(world.users.refresh(bad).await, Err(AuthError::Unknown { soft_logout: false })), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_hashes_are_stored() {
        let world = World::new().await;
        world.user("bob").await;
        let tokens = world.login("bob", "secret", refreshable("DEV")).await.expect("logged in").session.tokens;
        let refresh_token = tokens.refresh_token.expect("asked for");
        let view = world.storage.view();
        let row = view.get::<tables::AccessTokens>(&(hash(&tokens.access_token),)).await.expect("read");
        assert_eq!(row.map(|row| row.device), Some("DEV".to_owned()));
        assert!(view.get::<tables::RefreshTokens>(&(hash(&refresh_token),)).await.expect("read").is_some());
        insta::assert_snapshot!(tokens.access_token.len(), @"47");
    }

    #[tokio::test]
    async fn a_token_without_refresh_does_not_expire() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        world.pass(10 * 365 * 24 * 3600);
        assert_eq!(soft_logout(&world.users, &token(&bob)).await, None);
        assert_eq!(bob.session.expect("a session").tokens.expires_in, None);
    }

    #[tokio::test]
    async fn an_expired_token_is_a_soft_logout_and_can_be_refreshed() {
        let world = World::new().await;
        world.user("bob").await;
        let old = world.login("bob", "secret", refreshable("DEV")).await.expect("logged in").session.tokens;
        assert_eq!(old.expires_in, Some(Duration::from_mins(5)));
        assert_eq!(soft_logout(&world.users, &old.access_token).await, None);
        world.pass(300);
        assert_eq!(soft_logout(&world.users, &old.access_token).await, Some(true));
        let new = world.users.refresh(old.refresh_token.as_deref().expect("asked for")).await.expect("refreshed");
        let requester = world.users.authenticate(&new.access_token).await.expect("let in");
        assert_eq!(requester.device_id.as_deref(), Some("DEV".into()));
        assert_eq!(soft_logout(&world.users, &old.access_token).await, Some(false), "the first use ended it");
        assert!(world.users.refresh(old.refresh_token.as_deref().expect("asked for")).await.is_err());
    }

    #[tokio::test]
    async fn the_old_pair_lives_until_the_new_one_is_used() {
        let world = World::new().await;
        world.user("bob").await;
        let old = world.login("bob", "secret", refreshable("DEV")).await.expect("logged in").session.tokens;
        let old_refresh = old.refresh_token.as_deref().expect("asked for");
        assert_eq!(soft_logout(&world.users, &old.access_token).await, None);
        let lost = world.users.refresh(old_refresh).await.expect("refreshed");
        assert_eq!(soft_logout(&world.users, &old.access_token).await, None, "nothing new was used");
        let new = world.users.refresh(old_refresh).await.expect("refreshed again");
        assert_eq!(soft_logout(&world.users, &lost.access_token).await, Some(false), "its place was taken");
        assert_eq!(soft_logout(&world.users, &old.access_token).await, None);
        let newer = world
            .users
            .refresh(new.refresh_token.as_deref().expect("given"))
            .await
            .expect("the refresh token counts as use");
        assert_eq!(soft_logout(&world.users, &old.access_token).await, Some(false));
        assert!(world.users.refresh(old_refresh).await.is_err());
        assert_eq!(soft_logout(&world.users, &newer.access_token).await, None);
        assert_eq!(soft_logout(&world.users, &new.access_token).await, Some(false));
    }

    #[tokio::test]
    async fn refreshing_at_once_leaves_one_pair_that_works() {
        let world = World::new().await;
        world.user("bob").await;
        let old = world.login("bob", "secret", refreshable("DEV")).await.expect("logged in").session.tokens;
        let refresh = old.refresh_token.as_deref().expect("asked for");
        let (a, b) = tokio::join!(world.users.refresh(refresh), world.users.refresh(refresh));
        let (a, b) = (a.expect("refreshed"), b.expect("refreshed"));
        let works =
            [soft_logout(&world.users, &a.access_token).await, soft_logout(&world.users, &b.access_token).await];
        assert_eq!(works.iter().filter(|refused| refused.is_none()).count(), 1);
    }

    #[tokio::test]
    async fn a_refresh_token_may_end_too() {
        let world = World::with(Options { refresh_token_lifetime: Some(Duration::from_mins(10)), ..options() }).await;
        world.user("bob").await;
        let old = world.login("bob", "secret", refreshable("DEV")).await.expect("logged in").session.tokens;
        world.pass(600);
        let refused = world.users.refresh(old.refresh_token.as_deref().expect("asked for")).await;
        assert!(matches!(refused, Err(AuthError::Unknown { soft_logout: true })));
    }

    #[tokio::test]
    async fn logging_out_is_felt_at_once() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let other = world.login("bob", "secret", refreshable("DEV")).await.expect("logged in").session.tokens;
        assert_eq!(soft_logout(&world.users, &other.access_token).await, None);
        assert!(world.users.logout(bob.user_nid, "DEV".into()).await.expect("logged out"));
        assert!(!world.users.logout(bob.user_nid, "DEV".into()).await.expect("nothing left"));
        assert_eq!(soft_logout(&world.users, &other.access_token).await, Some(false));
        assert!(world.users.refresh(other.refresh_token.as_deref().expect("asked for")).await.is_err());
        assert_eq!(soft_logout(&world.users, &token(&bob)).await, None);
        assert_eq!(world.users.logout_all(bob.user_nid).await.expect("logged out").len(), 1);
        assert_eq!(soft_logout(&world.users, &token(&bob)).await, Some(false));
    }

    #[tokio::test]
    async fn a_token_read_before_a_logout_is_not_remembered_after_it() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let tokens = &Tokens::new(
            Ground { storage: world.storage.clone(), clock: world.clock.clone(), random: Random::seeded(9) },
            Arc::new(Accounts::new(world.storage.clone(), world.options.server_name.clone())),
            Lifetimes { access: Duration::from_secs(1), refresh: None },
        );
        let before = *tokens.revocations.lock();
        let known = tokens.load(hash(&token(&bob))).await.expect("read").expect("valid");
        tokens.forget(&[hash(&token(&bob))]);
        tokens.remember(hash(&token(&bob)), &known, before);
        assert!(tokens.known.get(&hash(&token(&bob))).is_none());
    }

    #[tokio::test]
    async fn a_locked_account_can_only_log_out_and_changes_are_felt_at_once() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let token = token(&bob);
        assert!(!world.users.authenticate(&token).await.expect("let in").is_admin);
        for change in [Administration::Admin(true), Administration::Suspended(true), Administration::Locked(true)] {
            assert!(world.users.administer(bob.user_nid, change).await.expect("written"));
        }
        assert!(matches!(world.users.authenticate(&token).await, Err(AuthError::Locked)));
        let requester = world.users.authenticate_to_log_out(&token).await.expect("let in");
        assert!(requester.is_admin && requester.is_suspended);
        world.users.administer(bob.user_nid, Administration::Locked(false)).await.expect("written");
        assert!(world.users.authenticate(&token).await.is_ok());
        assert!(!world.users.administer(UserNid(99), Administration::Locked(true)).await.expect("nobody"));
    }

    #[test]
    fn issued_tokens_are_never_shown() {
        let tokens = IssuedTokens {
            access_token: "sua_a".to_owned(),
            refresh_token: Some("sur_b".to_owned()),
            expires_in: None,
        };
        insta::assert_snapshot!(format!("{tokens:?}"), @"IssuedTokens { expires_in: None, .. }");
    }
}
