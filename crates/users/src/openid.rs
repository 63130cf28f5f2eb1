//! `OpenID` tokens (specification, "OpenID"): by one of them, another service learns from this server who a user is.
//!
//! A token opens nothing else, lives an hour and is stored hashed. Those that are over go an hour at a time.

use std::{sync::Arc, time::Duration};

use ruma::OwnedUserId;
use sha2::{Digest, Sha256};
use storage::{
    Batch, Direction, KeyRange,
    schema::services::{self as tables, OpenIdTokenRow},
};

use crate::{
    accounts::{Accounts, Status},
    error::StoreError,
    ground::Ground,
    limits::{Limit, LimitExceeded, RateLimits},
    tokens::Requester,
};

/// How long a token is valid.
pub const LIFETIME: Duration = Duration::from_hours(1);
/// What a token starts with, so that it is never taken for another kind.
const PREFIX: &str = "suo_";
/// Hours that one sweep drops at most.
const MAX_HOURS_A_SWEEP: usize = 48;

/// Why no token is issued.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdError {
    /// The user asks too often.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The `OpenID` tokens of all users.
#[derive(Debug)]
pub struct OpenIdTokens {
    ground: Ground,
    accounts: Arc<Accounts>,
    limits: Arc<RateLimits>,
}

impl OpenIdTokens {
    pub(crate) fn new(ground: Ground, accounts: Arc<Accounts>, limits: Arc<RateLimits>) -> Self {
        Self { ground, accounts, limits }
    }

    /// A new token for a user, valid for [`LIFETIME`]. This is the only time that it is seen.
    pub async fn issue(&self, requester: &Requester) -> Result<String, OpenIdError> {
        self.limits.check(Limit::OpenIdTokens(requester.user_nid))?;
        let token = format!("{PREFIX}{}", self.ground.random.token::<24>());
        let expires = self.ground.clock.now().plus(LIFETIME);
        let row = OpenIdTokenRow { user: requester.user_nid, expires };
        let mut batch = Batch::new();
        batch.put::<tables::OpenIdTokens>(&(hour(expires), hash(&token)), &row);
        self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
        Ok(token)
    }

    /// Whose token it is; none if it was not issued here or is over, or if the account has been locked or deactivated since.
    pub async fn redeem(&self, token: &str) -> Result<Option<OwnedUserId>, StoreError> {
        let now = self.ground.clock.now();
        let hash = hash(token);
        let keys = [hour(now), hour(now.plus(LIFETIME))].map(|hour| (hour, hash));
        let rows = self.ground.storage.view().multi_get::<tables::OpenIdTokens>(&keys).await?;
        let Some(row) = rows.into_iter().flatten().find(|row| now < row.expires) else { return Ok(None) };
        let account = self.accounts.get(row.user).await?;
        let account = account.filter(|account| matches!(account.status, Status::Active | Status::Suspended));
        Ok(account.map(|account| account.user_id))
    }

    /// Drops the hours that are over, each as one range.
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        let now = hour(self.ground.clock.now());
        for _ in 0..MAX_HOURS_A_SWEEP {
            let range = KeyRange::between(&(), &(now,));
            let page =
                self.ground.storage.view().scan_keys::<tables::OpenIdTokens>(&range, 1, Direction::Forward).await?;
            let Some((hour, _)) = page.keys.into_iter().next() else { return Ok(()) };
            let mut batch = Batch::new();
            batch.delete_prefix::<tables::OpenIdTokens>(&(hour,));
            self.ground.storage.commit(batch).await.map_err(StoreError::Commit)?;
        }
        Ok(())
    }
}

/// The hour of a time, counted from 1970.
fn hour(at: primitives::UnixMillis) -> u32 {
    u32::try_from(at.0 / 3_600_000).unwrap_or(u32::MAX)
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Administration, Limits, Options, Rate,
        testing::{World, options, token},
    };

    async fn issued(world: &World, access_token: &str) -> String {
        let requester = world.users.authenticate(access_token).await.expect("let in");
        world.users.openid().issue(&requester).await.expect("issued")
    }

    #[tokio::test]
    async fn a_token_names_its_user_for_an_hour_and_opens_nothing_else() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let vouched = issued(&world, &token(&bob)).await;
        assert_eq!(world.users.openid().redeem(&vouched).await.expect("read"), Some(bob.user_id.clone()));
        assert!(world.users.authenticate(&vouched).await.is_err());
        assert_eq!(world.users.openid().redeem(&token(&bob)).await.expect("read"), None);
        world.pass(3_599);
        world.users.run_due().await.expect("swept");
        assert_eq!(world.users.openid().redeem(&vouched).await.expect("read"), Some(bob.user_id));
        world.pass(1);
        assert_eq!(world.users.openid().redeem(&vouched).await.expect("read"), None);
    }

    #[tokio::test]
    async fn tokens_are_hashed_and_go_when_they_are_over() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let rows = async || {
            let view = world.storage.view();
            view.scan_keys::<tables::OpenIdTokens>(&KeyRange::prefix(&()), 100, Direction::Forward)
                .await
                .expect("read")
                .keys
        };
        for _ in 0..3 {
            let vouched = issued(&world, &token(&bob)).await;
            assert!(rows().await.iter().any(|(_, stored)| *stored == hash(&vouched)));
            world.pass(3_600);
        }
        world.users.run_due().await.expect("swept");
        assert_eq!(rows().await.len(), 1, "that of the last hour ends in this one");
        world.pass(3_600);
        world.users.run_due().await.expect("swept");
        assert_eq!(rows().await, []);
    }

    #[tokio::test]
    async fn nobody_vouches_for_an_account_that_is_locked_or_gone() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let vouched = issued(&world, &token(&bob)).await;
        world.users.administer(bob.user_nid, Administration::Locked(true)).await.expect("locked");
        assert_eq!(world.users.openid().redeem(&vouched).await.expect("read"), None);
        world.users.administer(bob.user_nid, Administration::Locked(false)).await.expect("unlocked");
        assert_eq!(world.users.openid().redeem(&vouched).await.expect("read"), Some(bob.user_id));
        world.users.deactivate(bob.user_nid, false, &Batch::new()).await.expect("deactivated");
        assert_eq!(world.users.openid().redeem(&vouched).await.expect("read"), None);
    }

    #[tokio::test]
    async fn tokens_are_issued_at_a_rate() {
        let limits = Limits { openid_tokens_per_user: Rate::new(1.0, 2), ..Limits::default() };
        let world = World::with(Options { limits, ..options() }).await;
        let bob = world.user("bob").await;
        let requester = world.users.authenticate(&token(&bob)).await.expect("let in");
        for _ in 0..2 {
            world.users.openid().issue(&requester).await.expect("issued");
        }
        assert!(matches!(world.users.openid().issue(&requester).await, Err(OpenIdError::LimitExceeded(_))));
    }
}
