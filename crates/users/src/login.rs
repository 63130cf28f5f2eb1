//! Login by password.

use std::{net::IpAddr, sync::Arc};

use primitives::UserNid;
use ruma::OwnedUserId;
use storage::{
    Batch, Storage,
    schema::users::{self as tables, AccountRow},
};

use crate::{
    accounts::{Accounts, Status, status},
    devices::{DeviceError, Devices, NewSession, Session},
    error::{MAX_ATTEMPTS, Outcome, StoreError, outcome},
    limits::{Limit, LimitExceeded, RateLimits},
    names::typed_localpart,
    passwords::{PasswordError, Passwords},
    tokens::Tokens,
};

/// Whom somebody says they are (specification, "Identifier types").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// `m.id.user`: a user id or its local part.
    User(String),
    /// `m.id.thirdparty`.
    ThirdParty {
        /// `email` or `msisdn`.
        medium: String,
        /// The address.
        address: String,
    },
    /// `m.id.phone`.
    Phone {
        /// The country that the number is written in.
        country: String,
        /// The number.
        phone: String,
    },
}

/// An attempt to log in by password.
#[derive(Debug)]
pub struct Login<'a> {
    /// Who.
    pub identifier: &'a Identifier,
    /// The password.
    pub password: &'a str,
    /// The session to start.
    pub session: NewSession,
    /// The client's address, for its limit.
    pub address: Option<IpAddr>,
}

/// Why nobody is logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such user, or the password is another.
    #[error("wrong user name or password")]
    BadCredentials,
    /// The account was deactivated.
    #[error("this account has been deactivated")]
    Deactivated,
    /// The account is locked.
    #[error("this account has been locked")]
    Locked,
    /// Too many attempts.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// Too many passwords are being checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(DeviceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DeviceError> for LoginError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Store(error) => Self::Store(error),
            other => Self::Device(other),
        }
    }
}

/// Somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The user id, as the account is spelt.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user_nid: UserNid,
    /// The session.
    pub session: Session,
}

/// Whom somebody says they are, looked up.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// The name under which attempts are counted, also if nobody has it.
    name: String,
    /// The account, if there is one.
    pub(crate) account: Option<(UserNid, AccountRow)>,
}

/// Checks who somebody is, and starts sessions.
#[derive(Debug)]
pub(crate) struct Logins {
    storage: Storage,
    accounts: Arc<Accounts>,
    devices: Arc<Devices>,
    tokens: Arc<Tokens>,
    limits: Arc<RateLimits>,
    passwords: Passwords,
}

impl Logins {
    pub(crate) fn new(
        storage: Storage,
        accounts: Arc<Accounts>,
        devices: Arc<Devices>,
        tokens: Arc<Tokens>,
        limits: Arc<RateLimits>,
        passwords: Passwords,
    ) -> Self {
        Self { storage, accounts, devices, tokens, limits, passwords }
    }

    /// The account that is meant: spelt as typed, or in small letters.
    pub(crate) async fn find(&self, identifier: &Identifier) -> Result<Claimed, StoreError> {
        let nobody = |name: &str| Claimed { name: name.to_ascii_lowercase(), account: None };
        let typed = match identifier {
            Identifier::User(typed) => typed,
            // No third-party identifiers are bound to accounts here.
            Identifier::ThirdParty { address: other, .. } | Identifier::Phone { phone: other, .. } => {
                return Ok(nobody(other));
            }
        };
        let Some(localpart) = typed_localpart(typed, self.accounts.server_name()) else { return Ok(nobody(typed)) };
        let view = self.storage.view();
        let mut user = self.accounts.nid_of(&view, localpart).await?;
        if user.is_none() {
            user = self.accounts.nid_of(&view, &localpart.to_ascii_lowercase()).await?;
        }
        let Some(user) = user else { return Ok(nobody(localpart)) };
        let row = view.get::<tables::Accounts>(&(user,)).await?;
        let name = row.as_ref().map_or_else(|| localpart.to_owned(), |row| row.localpart.clone());
        Ok(Claimed { name, account: row.map(|row| (user, row)) })
    }

    /// Checks a password, at the same cost whether or not there is such a user. Wrong ones are counted; after too many of them the account takes
    /// none for a while, not even the right one.
    pub(crate) async fn verify(&self, claimed: &Claimed, password: &str) -> Result<(UserNid, AccountRow), LoginError> {
        self.limits.may_try_password(&claimed.name)?;
        let hash = claimed.account.as_ref().and_then(|(_, row)| row.password_hash.as_deref());
        let matches = self.passwords.verify(password, hash).await?;
        // Others may have tried meanwhile: of many guesses made at once no more count than of as many in a row.
        self.limits.may_try_password(&claimed.name)?;
        match &claimed.account {
            Some((_, row)) if status(row) == Status::Deactivated => Err(LoginError::Deactivated),
            Some((user, row)) if matches => Ok((*user, row.clone())),
            _ => {
                self.limits.wrong_password(&claimed.name);
                Err(LoginError::BadCredentials)
            }
        }
    }

    /// Logs in by password.
    pub(crate) async fn log_in(&self, login: Login<'_>) -> Result<LoggedIn, LoginError> {
        let logged_in = self.try_log_in(login).await;
        let outcome = match &logged_in {
            Ok(_) => "ok",
            Err(LoginError::BadCredentials) => "bad_credentials",
            Err(LoginError::LimitExceeded(_)) => "limit_exceeded",
            Err(_) => "refused",
        };
        metrics::counter!("sundial_logins_total", "outcome" => outcome).increment(1);
        logged_in
    }

    async fn try_log_in(&self, login: Login<'_>) -> Result<LoggedIn, LoginError> {
        if let Some(address) = login.address {
            self.limits.check(Limit::LoginAddress(address))?;
        }
        let claimed = self.find(login.identifier).await?;
        self.limits.check(Limit::LoginAccount(&claimed.name))?;
        let (user, verified) = self.verify(&claimed, login.password).await?;
        let outdated = verified.password_hash.as_ref().is_some_and(|hash| self.passwords.is_outdated(hash));
        let renewed_hash = if outdated { Some(self.passwords.hash(login.password).await?) } else { None };
        for _ in 0..MAX_ATTEMPTS {
            let view = self.storage.view();
            let row = view.get::<tables::Accounts>(&(user,)).await.map_err(StoreError::from)?;
            let Some(row) = row.filter(|row| row.password_hash == verified.password_hash) else {
                return Err(LoginError::BadCredentials);
            };
            match status(&row) {
                Status::Deactivated => return Err(LoginError::Deactivated),
                Status::Locked => return Err(LoginError::Locked),
                Status::Active | Status::Suspended => {}
            }
            let mut batch = Batch::new();
            batch.assert_equals::<tables::Accounts>(&(user,), &row);
            if renewed_hash.is_some() {
                let renewed = AccountRow { password_hash: renewed_hash.clone(), ..row.clone() };
                batch.put::<tables::Accounts>(&(user,), &renewed);
            }
            let (session, ended) = self.devices.log_in(&view, &mut batch, user, &login.session).await?;
            if let Outcome::Done(_) = outcome(self.storage.commit(batch).await)? {
                self.tokens.forget(&ended);
                self.devices.ring();
                return Ok(LoggedIn { user_id: self.accounts.id_of(&row.localpart), user_nid: user, session });
            }
        }
        Err(StoreError::Contended.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Administration, Limits, Options, PasswordHashCost, Rate,
        testing::{World, device, options, token},
    };

    #[tokio::test]
    async fn every_spelling_of_the_user_logs_in() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        for spelling in ["bob", "BOB", "@bob:hs1", "@Bob:hs1"] {
            let logged_in = world.login(spelling, "secret", NewSession::default()).await.expect("logged in");
            assert_eq!((logged_in.user_id, logged_in.user_nid), (bob.user_id.clone(), bob.user_nid));
        }
        for nobody in ["carol", "@bob:hs2", "@bob", ""] {
            let refused = world.login(nobody, "secret", NewSession::default()).await;
            assert!(matches!(refused, Err(LoginError::BadCredentials)), "{nobody}");
        }
        for password in ["Secret", "", "secret "] {
            assert!(matches!(
                world.login("bob", password, NewSession::default()).await,
                Err(LoginError::BadCredentials)
            ));
        }
    }

    #[tokio::test]
    async fn third_party_identifiers_belong_to_nobody() {
        let world = World::new().await;
        world.user("bob").await;
        let email = Identifier::ThirdParty { medium: "email".to_owned(), address: "bob@example.org".to_owned() };
        let phone = Identifier::Phone { country: "GB".to_owned(), phone: "07700900001".to_owned() };
        for identifier in [email, phone] {
            let login =
                Login { identifier: &identifier, password: "secret", session: NewSession::default(), address: None };
            assert!(matches!(world.users.login(login).await, Err(LoginError::BadCredentials)));
        }
    }

    #[tokio::test]
    async fn a_login_on_a_known_device_takes_the_place_of_its_tokens() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let named = NewSession { initial_device_display_name: Some("phone".to_owned()), ..device("DEV") };
        let first = world.login("bob", "secret", named).await.expect("logged in");
        let renamed = NewSession { initial_device_display_name: Some("other".to_owned()), ..device("DEV") };
        let second = world.login("bob", "secret", renamed).await.expect("logged in");
        assert!(world.users.authenticate(&second.session.tokens.access_token).await.is_ok());
        assert!(world.users.authenticate(&first.session.tokens.access_token).await.is_err());
        assert!(world.users.authenticate(&token(&bob)).await.is_ok(), "other devices stay");
        let devices = world.users.devices().list(bob.user_nid).await.expect("read");
        let dev = devices.iter().find(|device| device.device_id == "DEV").expect("there");
        assert_eq!((devices.len(), dev.display_name.as_deref()), (2, Some("phone")));
    }

    #[tokio::test]
    async fn bad_devices_are_refused() {
        let world = World::new().await;
        world.user("bob").await;
        for id in [String::new(), "x".repeat(256)] {
            let refused = world.login("bob", "secret", device(&id)).await;
            assert!(matches!(refused, Err(LoginError::Device(DeviceError::BadId))));
        }
        let named = NewSession { initial_device_display_name: Some("x".repeat(257)), ..NewSession::default() };
        let refused = world.login("bob", "secret", named).await;
        assert!(matches!(refused, Err(LoginError::Device(DeviceError::NameTooLong))));
    }

    #[tokio::test]
    async fn the_status_of_the_account_is_looked_at() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        assert!(world.users.administer(bob.user_nid, Administration::Locked(true)).await.expect("written"));
        assert!(matches!(world.login("bob", "secret", NewSession::default()).await, Err(LoginError::Locked)));
        assert!(matches!(world.login("bob", "wrong", NewSession::default()).await, Err(LoginError::BadCredentials)));
        world.users.administer(bob.user_nid, Administration::Locked(false)).await.expect("written");
        world.users.administer(bob.user_nid, Administration::Suspended(true)).await.expect("written");
        assert!(world.login("bob", "secret", NewSession::default()).await.is_ok());
        world.users.deactivate(bob.user_nid, false, &Batch::new()).await.expect("deactivated");
        assert!(matches!(world.login("bob", "secret", NewSession::default()).await, Err(LoginError::Deactivated)));
    }

    #[tokio::test]
    async fn a_login_renews_a_hash_of_another_cost() {
        let world = World::new().await;
        let bob = world.user("bob").await;
        let row = async || {
            world.storage.view().get::<tables::Accounts>(&(bob.user_nid,)).await.expect("read").expect("there")
        };
        let before = row().await;
        world.login("bob", "secret", NewSession::default()).await.expect("logged in");
        assert_eq!(row().await, before);
        let cost = PasswordHashCost { memory_kib: 16, ..world.options.password_hash };
        let dearer = World { options: Options { password_hash: cost, ..options() }, ..world };
        let users = dearer.reopened().await;
        let dearer = World { users, ..dearer };
        assert!(matches!(dearer.login("bob", "wrong", NewSession::default()).await, Err(LoginError::BadCredentials)));
        dearer.login("bob", "secret", NewSession::default()).await.expect("logged in");
        let after =
            dearer.storage.view().get::<tables::Accounts>(&(bob.user_nid,)).await.expect("read").expect("there");
        assert!(after.password_hash.as_ref().is_some_and(|hash| hash.contains("m=16")));
        dearer.login("bob", "secret", NewSession::default()).await.expect("logged in again");
    }

    #[tokio::test]
    async fn guesses_made_at_once_count_like_guesses_in_a_row() {
        let limits = Limits {
            failed_logins_per_account: Rate::new(0.01, 1),
            logins_per_account: Rate::new(9.0, 99),
            ..Limits::default()
        };
        let world = World::with(Options { limits, ..options() }).await;
        world.user("bob").await;
        let identifier = Identifier::User("bob".to_owned());
        let tracker = tokio_util::task::TaskTracker::new();
        let guesses: Vec<_> = (0..20)
            .map(|_| {
                let (users, identifier) = (world.users.clone(), identifier.clone());
                tracker.spawn(async move {
                    let session = NewSession::default();
                    users.login(Login { identifier: &identifier, password: "wrong", session, address: None }).await
                })
            })
            .collect();
        let mut told = 0;
        for guess in guesses {
            told += usize::from(matches!(guess.await.expect("no panic"), Err(LoginError::BadCredentials)));
        }
        assert!(told <= 3, "{told} guesses were answered");
    }

    #[tokio::test]
    async fn logins_are_limited_by_address_account_and_failure() {
        let limits = Limits {
            logins_per_address: Rate::new(0.01, 2),
            logins_per_account: Rate::new(0.01, 3),
            failed_logins_per_account: Rate::new(0.01, 1),
            ..Limits::default()
        };
        let world = World::with(Options { limits, ..options() }).await;
        for name in ["bob", "carol", "dora"] {
            world.user(name).await;
        }
        let from = |address: &'static str, user: &str, password: &'static str| {
            let (users, identifier) = (world.users.clone(), Identifier::User(user.to_owned()));
            let address = Some(address.parse().expect("an address"));
            async move {
                users.login(Login { identifier: &identifier, password, session: NewSession::default(), address }).await
            }
        };
        assert!(from("192.0.2.1", "bob", "secret").await.is_ok());
        assert!(from("192.0.2.1", "dora", "secret").await.is_ok());
        let exceeded = |result| matches!(result, Err(LoginError::LimitExceeded(_)));
        assert!(exceeded(from("192.0.2.1", "dora", "secret").await), "the address");
        assert!(world.login("bob", "secret", NewSession::default()).await.is_ok());
        assert!(world.login("BOB", "secret", NewSession::default()).await.is_ok());
        assert!(
            exceeded(world.login("bob", "secret", NewSession::default()).await),
            "the account, however it is spelt"
        );
        for _ in 0..2 {
            assert!(matches!(
                world.login("carol", "wrong", NewSession::default()).await,
                Err(LoginError::BadCredentials)
            ));
        }
        assert!(exceeded(world.login("carol", "secret", NewSession::default()).await), "failures");
    }
}
