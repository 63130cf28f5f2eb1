//! Registration: a new account, its first device, and the token that let it in, in one batch.

use std::sync::Arc;

use primitives::UserNid;
use ruma::OwnedUserId;
use storage::{
    Batch, CommitError, Raw, Text, View,
    schema::{
        meta::Counters,
        users::{self as tables, AccountKind, AccountRow, Life},
    },
};

use crate::{
    accounts::Accounts,
    devices::{DeviceError, Devices, NewSession, Session},
    error::{MAX_ATTEMPTS, StoreError},
    ground::Ground,
    names::{NameError, new_localpart},
    options::RegistrationMode,
    passwords::{PasswordError, Passwords},
    registration_tokens::{RegistrationTokens, USER_NUMBERS, Valid},
    uia::{Authorised, Flow, Stage},
};

/// Why nobody is registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// An account has, or had, this name.
    #[error("this user name is taken")]
    UserInUse,
    /// No account can have this name.
    #[error(transparent)]
    InvalidUsername(#[from] NameError),
    /// The password cannot be used, or too many are being hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(DeviceError),
    /// The registration token was used up or withdrawn in the meantime.
    #[error("the registration token is not valid any more")]
    InvalidToken,
    /// Registration is closed.
    #[error("registration is closed")]
    Closed,
    /// Guests are not allowed here.
    #[error("guest access is disabled")]
    GuestsForbidden,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<DeviceError> for RegisterError {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Store(error) => Self::Store(error),
            other => Self::Device(other),
        }
    }
}

/// On whose word an account is made.
#[derive(Debug)]
pub enum Authority {
    /// Somebody went through the stages of [`Registration::flows`].
    Interactive(Authorised),
    /// Somebody wants to look around as a guest. Name and password are not looked at.
    Guest,
    /// The administrator: the command line, the shared secret.
    Administrator {
        /// The new account may use the administration API.
        admin: bool,
        /// A label for it.
        user_type: Option<String>,
    },
}

/// A wish for an account.
#[derive(Debug)]
pub struct NewAccount {
    /// On whose word.
    pub authority: Authority,
    /// The wished name; none for a random one.
    pub username: Option<String>,
    /// The password; none for an account that cannot log in by password.
    pub password: Option<String>,
    /// The display name to begin with.
    pub display_name: Option<String>,
    /// The session to start; none if the client does not want one (`inhibit_login`).
    pub session: Option<NewSession>,
}

/// A new account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The user id.
    pub user_id: OwnedUserId,
    /// The user's number.
    pub user_nid: UserNid,
    /// May use the administration API.
    pub is_admin: bool,
    /// The session, if one was wished for.
    pub session: Option<Session>,
}

/// Makes accounts.
#[derive(Debug)]
pub struct Registration {
    ground: Ground,
    accounts: Arc<Accounts>,
    devices: Arc<Devices>,
    tokens: Arc<RegistrationTokens>,
    passwords: Passwords,
    allow_guests: bool,
    /// Registrations commit one after the other: all of them want the next number.
    turn: tokio::sync::Mutex<()>,
}

/// What a new account is made of, before it has a number.
struct Draft {
    kind: AccountKind,
    admin: bool,
    user_type: Option<String>,
    password_hash: Option<String>,
    token: Option<String>,
    display_name: Option<String>,
    session: Option<NewSession>,
}

/// Whether a name is free for a draft's batch.
enum Attempt {
    Registered(Registered),
    Taken,
    Again,
}

impl Registration {
    pub(crate) fn new(
        ground: Ground,
        accounts: Arc<Accounts>,
        devices: Arc<Devices>,
        tokens: Arc<RegistrationTokens>,
        passwords: Passwords,
        allow_guests: bool,
    ) -> Self {
        Self { ground, accounts, devices, tokens, passwords, allow_guests, turn: tokio::sync::Mutex::default() }
    }

    /// The ways through user-interactive authentication to a new account, or that there are none.
    pub async fn flows(&self) -> Result<Vec<Flow>, RegisterError> {
        let by_token = vec![Stage::RegistrationToken];
        let first_start = self.tokens.first_start().await?.is_some();
        match self.tokens.mode() {
            RegistrationMode::Closed if first_start => Ok(vec![by_token]),
            RegistrationMode::Closed => Err(RegisterError::Closed),
            RegistrationMode::Token => Ok(vec![by_token]),
            RegistrationMode::Open if first_start => Ok(vec![vec![Stage::Dummy], by_token]),
            RegistrationMode::Open => Ok(vec![vec![Stage::Dummy]]),
        }
    }

    /// Whether a name could be registered now; the error says why not. Answers with the local part it would get.
    pub async fn check_name(&self, username: &str) -> Result<String, RegisterError> {
        let localpart = new_localpart(username, self.accounts.server_name())?;
        match self.accounts.nid_of(&self.ground.storage.view(), &localpart).await? {
            Some(_) => Err(RegisterError::UserInUse),
            None => Ok(localpart),
        }
    }

    /// Makes an account. Of two that want the same name at the same time, exactly one gets it.
    pub async fn register(&self, new: NewAccount) -> Result<Registered, RegisterError> {
        let guest = matches!(new.authority, Authority::Guest);
        if guest && !self.allow_guests {
            return Err(RegisterError::GuestsForbidden);
        }
        let wished = match &new.username {
            Some(username) if !guest => Some(self.check_name(username).await?),
            _ => None,
        };
        let draft = self.draft(new).await?;
        let _turn = self.turn.lock().await;
        for _ in 0..MAX_ATTEMPTS {
            let localpart = wished.clone().unwrap_or_else(|| self.ground.random.letters(12).to_ascii_lowercase());
            match self.attempt(&localpart, &draft).await? {
                Attempt::Registered(registered) => {
                    metrics::counter!("sundial_registrations_total").increment(1);
                    return Ok(registered);
                }
                Attempt::Taken if wished.is_some() => return Err(RegisterError::UserInUse),
                Attempt::Taken | Attempt::Again => {}
            }
        }
        Err(StoreError::Contended.into())
    }

    async fn draft(&self, new: NewAccount) -> Result<Draft, RegisterError> {
        let (kind, admin, user_type, token) = match new.authority {
            Authority::Interactive(authorised) => (AccountKind::User, false, None, authorised.registration_token),
            Authority::Guest => (AccountKind::Guest, false, None, None),
            Authority::Administrator { admin, user_type } => (AccountKind::User, admin, user_type, None),
        };
        let guest = kind == AccountKind::Guest;
        let password_hash = match new.password {
            Some(password) if !guest => Some(self.passwords.hash(&password).await?),
            _ => None,
        };
        // A guest's device is the server's choice (specification, `POST /register`).
        let session =
            new.session.map(|session| NewSession { device_id: session.device_id.filter(|_| !guest), ..session });
        Ok(Draft { kind, admin, user_type, password_hash, token, display_name: new.display_name, session })
    }

    async fn attempt(&self, localpart: &str, draft: &Draft) -> Result<Attempt, RegisterError> {
        let view = self.ground.storage.view();
        if self.accounts.nid_of(&view, localpart).await?.is_some() {
            return Ok(Attempt::Taken);
        }
        let mut batch = Batch::new();
        let user = self.next_number(&view, &mut batch).await?;
        batch.assert_absent::<tables::AccountNames>(&(Text::new(localpart),));
        batch.put::<tables::AccountNames>(&(Text::new(localpart),), &user);
        let is_admin = draft.admin | self.use_token(&view, &mut batch, draft.token.as_deref()).await?;
        let row = self.row(localpart, draft, is_admin);
        batch.put::<tables::Accounts>(&(user,), &row);
        if let Some(name) = &draft.display_name {
            let profile = serde_json::json!({ "displayname": name });
            batch.put::<tables::Profiles>(&(user,), &Raw(profile.to_string().into_bytes()));
        }
        let session = match &draft.session {
            Some(new) => Some(self.devices.log_in(&view, &mut batch, user, new).await?.0),
            None => None,
        };
        let user_id = self.accounts.id_of(localpart);
        match self.ground.storage.commit(batch).await {
            Ok(_) => Ok(Attempt::Registered(Registered { user_id, user_nid: user, is_admin, session })),
            Err(CommitError::Conflict(_)) => Ok(Attempt::Again),
            Err(error) => Err(StoreError::Commit(error).into()),
        }
    }

    fn row(&self, localpart: &str, draft: &Draft, admin: bool) -> AccountRow {
        AccountRow {
            localpart: localpart.to_owned(),
            kind: draft.kind,
            admin,
            created: self.ground.clock.now(),
            password_hash: draft.password_hash.clone(),
            life: Life::Active,
            locked: false,
            suspended: false,
            user_type: draft.user_type.clone(),
        }
    }

    async fn next_number(&self, view: &View, batch: &mut Batch) -> Result<UserNid, StoreError> {
        let key = (Text::new(USER_NUMBERS),);
        let used = view.get::<Counters>(&key).await?;
        // Numbers begin with 1.
        let next = used.unwrap_or(0) + 1;
        batch.assert_unchanged::<Counters>(&key, used.as_ref()).put::<Counters>(&key, &next);
        Ok(UserNid(next))
    }

    /// Uses the registration token up. Answers whether it makes its user an administrator.
    async fn use_token(&self, view: &View, batch: &mut Batch, token: Option<&str>) -> Result<bool, RegisterError> {
        let Some(token) = token else { return Ok(false) };
        let valid = self.tokens.look_up(view, token).await?.ok_or(RegisterError::InvalidToken)?;
        RegistrationTokens::consume(batch, token, &valid);
        Ok(matches!(valid, Valid::FirstStart(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Options, Users,
        testing::{World, account, options, token},
        uia::{AuthData, Interaction, Operation, UiaError},
    };

    async fn by_token(users: &Users, name: &str, token: &str) -> Result<Registered, RegisterError> {
        let auth = AuthData {
            stage: Some("m.login.registration_token".to_owned()),
            token: Some(token.to_owned()),
            ..AuthData::default()
        };
        let flows = users.registration().flows().await?;
        let operation = Operation::new("register", &[]);
        let interaction = Interaction { requester: None, operation, flows, auth: Some(&auth), address: None };
        match users.interact(interaction).await {
            Ok(authorised) => {
                users.register(NewAccount { authority: Authority::Interactive(authorised), ..account(name) }).await
            }
            Err(UiaError::Challenge(_)) => Err(RegisterError::InvalidToken),
            Err(other) => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn a_new_account_has_a_small_name_a_number_and_a_session() {
        let world = World::new().await;
        let bob = world.user("Bob").await;
        assert_eq!((bob.user_id.as_str(), bob.user_nid, bob.is_admin), ("@bob:hs1", UserNid(1), false));
        let requester = world.users.authenticate(&token(&bob)).await.expect("let in");
        assert_eq!(requester.device_id, bob.session.map(|session| session.device_id));
        assert_eq!(world.users.nid(&bob.user_id).await.expect("read"), Some(UserNid(1)));
        assert_eq!(world.users.user_id(UserNid(1)).await.expect("read"), Some(bob.user_id));
        assert_eq!(world.user("alice").await.user_nid, UserNid(2));
        assert_eq!(world.users.nid(ruma::user_id!("@bob:hs2")).await.expect("read"), None);
        assert_eq!(world.users.nid(ruma::user_id!("@carol:hs1")).await.expect("read"), None);
    }

    #[tokio::test]
    async fn of_many_that_want_a_name_at_once_one_gets_it() {
        let world = World::new().await;
        let tracker = tokio_util::task::TaskTracker::new();
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let users = world.users.clone();
                tracker.spawn(async move { users.register(account("bob")).await })
            })
            .collect();
        let mut registered = 0;
        for task in tasks {
            match task.await.expect("no panic") {
                Ok(_) => registered += 1,
                Err(error) => assert!(matches!(error, RegisterError::UserInUse), "{error}"),
            }
        }
        assert_eq!(registered, 1);
        assert_eq!(world.user("next").await.user_nid, UserNid(2));
    }

    #[tokio::test]
    async fn two_openings_of_one_store_do_not_give_a_name_or_a_number_twice() {
        let world = World::new().await;
        let other = world.reopened().await;
        let (a, b) = tokio::join!(world.users.register(account("bob")), other.register(account("bob")));
        assert_eq!([&a, &b].iter().filter(|result| result.is_ok()).count(), 1);
        let (a, b) = tokio::join!(world.users.register(account("x")), other.register(account("y")));
        assert_ne!(a.expect("registered").user_nid, b.expect("registered").user_nid);
    }

    #[tokio::test]
    async fn names_are_checked_before_anything_is_hashed() {
        let world = World::new().await;
        world.user("bob").await;
        assert!(matches!(world.users.registration().check_name("BOB").await, Err(RegisterError::UserInUse)));
        let refused = world.users.registration().check_name("b,b").await;
        assert!(matches!(refused, Err(RegisterError::InvalidUsername(NameError::Characters))));
        assert_eq!(world.users.registration().check_name("Carol").await.expect("free"), "carol");
    }

    #[tokio::test]
    async fn without_a_name_one_is_made_up_and_without_login_there_is_no_session() {
        let world = World::new().await;
        let new = NewAccount { username: None, session: None, display_name: Some("B\"b".to_owned()), ..account("") };
        let made = world.users.register(new).await.expect("registered");
        assert_eq!(made.user_id.localpart().len(), 12);
        assert_eq!(made.session, None);
        let profile = world.users.profiles().get(&made.user_id).await.expect("read").expect("there");
        assert_eq!(profile.display_name(), Some("B\"b"));
    }

    #[tokio::test]
    async fn a_guest_chooses_nothing() {
        let world = World::new().await;
        let session = Some(NewSession { device_id: Some("MINE".into()), ..NewSession::default() });
        let new = || NewAccount { authority: Authority::Guest, session: session.clone(), ..account("bob") };
        let guest = world.users.register(new()).await.expect("registered");
        assert_ne!(guest.user_id.localpart(), "bob");
        assert_ne!(guest.session.as_ref().expect("a session").device_id, "MINE");
        assert!(world.users.authenticate(&token(&guest)).await.expect("let in").is_guest);
        assert!(!world.users.account(guest.user_nid).await.expect("read").expect("there").has_password);
        let closed = World::with(Options { allow_guests: false, ..options() }).await;
        assert!(matches!(closed.users.register(new()).await, Err(RegisterError::GuestsForbidden)));
    }

    #[tokio::test]
    async fn the_token_of_the_first_start_works_once_in_every_mode_and_makes_an_administrator() {
        for registration in [RegistrationMode::Closed, RegistrationMode::Token, RegistrationMode::Open] {
            let world = World::with(Options { registration, ..options() }).await;
            let token = world.users.first_start_token().await.expect("read").expect("an empty store has one");
            let again = world.reopened().await.first_start_token().await.expect("read");
            assert_eq!(again.as_ref(), Some(&token), "until it is used it stays");
            assert!(by_token(&world.users, "eve", "wrong").await.is_err());
            assert!(by_token(&world.users, "admin", &token).await.expect("registered").is_admin);
            assert!(by_token(&world.users, "late", &token).await.is_err());
            assert_eq!(world.reopened().await.first_start_token().await.expect("read"), None);
        }
    }

    #[tokio::test]
    async fn two_that_hold_the_first_token_at_once_do_not_both_become_administrator() {
        let world = World::with(Options { registration: RegistrationMode::Closed, ..options() }).await;
        let token = world.users.first_start_token().await.expect("read").expect("there");
        let (a, b) = tokio::join!(by_token(&world.users, "a", &token), by_token(&world.users, "b", &token));
        assert_eq!([&a, &b].iter().filter(|result| result.is_ok()).count(), 1);
    }

    #[tokio::test]
    async fn the_flows_follow_the_mode() {
        let closed = World::with(Options { registration: RegistrationMode::Closed, ..options() }).await;
        let flows = closed.users.registration().flows().await.expect("the first token opens it");
        assert_eq!(flows, [[Stage::RegistrationToken]]);
        let token = closed.users.first_start_token().await.expect("read").expect("there");
        by_token(&closed.users, "admin", &token).await.expect("registered");
        assert!(matches!(closed.users.registration().flows().await, Err(RegisterError::Closed)));
        let open = World::new().await;
        assert_eq!(open.users.registration().flows().await.expect("open")[0], [Stage::Dummy]);
    }

    #[tokio::test]
    async fn a_registration_token_has_its_uses_and_its_time() {
        let world = World::with(Options { registration: RegistrationMode::Token, ..options() }).await;
        let tokens = world.users.registration_tokens();
        let ends = primitives::UnixMillis(1_700_000_060_000);
        tokens.create(Some("twice"), Some(2), Some(ends)).await.expect("made");
        by_token(&world.users, "a", "twice").await.expect("registered");
        by_token(&world.users, "b", "twice").await.expect("registered");
        assert!(by_token(&world.users, "c", "twice").await.is_err());
        tokens.create(Some("short"), None, Some(ends)).await.expect("made");
        assert!(tokens.is_valid("short").await.expect("read"));
        world.pass(60);
        assert!(!tokens.is_valid("short").await.expect("read"));
        assert!(tokens.create(Some("short"), None, None).await.is_err());
        assert!(tokens.create(Some("sh rt"), None, None).await.is_err());
        let listed: Vec<_> =
            tokens.list(None, 10).await.expect("read").into_iter().map(|t| (t.token, t.used)).collect();
        assert_eq!(listed, [("short".to_owned(), 0), ("twice".to_owned(), 2)]);
        assert_eq!(tokens.list(Some("short"), 10).await.expect("read").len(), 1);
        assert!(tokens.delete("short").await.expect("deleted"));
        assert!(!tokens.delete("short").await.expect("deleted"));
    }
}
