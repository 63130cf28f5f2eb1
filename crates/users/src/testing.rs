//! What the tests of this crate share.

use std::{sync::Arc, time::Duration};

use primitives::{ManualClock, Random, SharedClock, UnixMillis};
use ruma::owned_server_name;
use storage::Storage;

use crate::{
    Authority, Identifier, Limits, LoggedIn, Login, LoginError, NewAccount, NewSession, Options, PasswordHashCost,
    Registered, RegistrationMode, Users,
};

/// A server's users on a store in memory, with a clock that stands still.
pub(crate) struct World {
    pub(crate) users: Users,
    pub(crate) storage: Storage,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) options: Options,
}

pub(crate) fn options() -> Options {
    Options {
        registration: RegistrationMode::Open,
        shared_secret: Some("shared".to_owned()),
        allow_guests: true,
        limits: Limits { enforce: false, ..Limits::default() },
        password_hash: PasswordHashCost { memory_kib: 8, iterations: 1, parallelism: 1, at_once: 2 },
        ..Options::new(owned_server_name!("hs1"))
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(options()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let clock = ManualClock::new(UnixMillis(1_700_000_000_000));
        let shared: SharedClock = clock.clone();
        let storage = Storage::memory(&shared, &Random::seeded(1));
        let users = Users::open(storage.clone(), shared, Random::seeded(2), options.clone()).await.expect("opens");
        Self { users, storage, clock, options }
    }

    /// The same store, opened again; secrets are never the same twice.
    pub(crate) async fn reopened(&self) -> Users {
        let random = Random::seeded(self.storage.position().0);
        let opened = Users::open(self.storage.clone(), self.clock.clone(), random, self.options.clone());
        opened.await.expect("opens")
    }

    /// A user with the password `secret` and a device.
    pub(crate) async fn user(&self, name: &str) -> Registered {
        self.users.register(account(name)).await.expect("registered")
    }

    pub(crate) async fn login(&self, user: &str, password: &str, session: NewSession) -> Result<LoggedIn, LoginError> {
        let identifier = Identifier::User(user.to_owned());
        self.users.login(Login { identifier: &identifier, password, session, address: None }).await
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

pub(crate) fn account(name: &str) -> NewAccount {
    NewAccount {
        authority: Authority::Administrator { admin: false, user_type: None },
        username: Some(name.to_owned()),
        password: Some("secret".to_owned()),
        display_name: None,
        session: Some(NewSession::default()),
    }
}

pub(crate) fn device(id: &str) -> NewSession {
    NewSession { device_id: Some(id.into()), ..NewSession::default() }
}

pub(crate) fn token(registered: &Registered) -> String {
    registered.session.as_ref().expect("a session").tokens.access_token.clone()
}
