//! User-interactive authentication (specification, "User-Interactive Authentication API").
//!
//! A session belongs to one user, one device and one operation, and opens the door once. It lives in memory: after a restart a client begins
//! anew. What a user types is checked and dropped; a session holds no secret but the registration token that is yet to be used.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use primitives::UserNid;
use ruma::OwnedDeviceId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::StoreError,
    ground::Ground,
    limits::{Limit, LimitExceeded, RateLimits},
    login::{Identifier, LoginError, Logins},
    passwords::PasswordError,
    registration_tokens::RegistrationTokens,
    tokens::Requester,
};

/// How long a session lasts from its first request.
const LIFETIME: Duration = Duration::from_mins(15);
/// Sessions of one user at the same time; the oldest goes.
const MAX_PER_USER: usize = 20;
/// Sessions at the same time of those who are not logged in.
const MAX_ANONYMOUS: usize = 10_000;

/// A step of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing to do.
    #[serde(rename = "m.login.dummy")]
    Dummy,
    /// Knowing the password.
    #[serde(rename = "m.login.password")]
    Password,
    /// Having a registration token.
    #[serde(rename = "m.login.registration_token")]
    RegistrationToken,
}

impl Stage {
    fn parse(kind: &str) -> Option<Self> {
        [Self::Dummy, Self::Password, Self::RegistrationToken].into_iter().find(|stage| stage.as_str() == kind)
    }

    /// The stage's name in the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dummy => "m.login.dummy",
            Self::Password => "m.login.password",
            Self::RegistrationToken => "m.login.registration_token",
        }
    }
}

/// Stages that lead to the goal, in this order.
pub type Flow = Vec<Stage>;

/// What is to be done: a session for one operation is no good for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation([u8; 32]);

impl Operation {
    /// The operation of this name on these things: a device to delete, say. What a client may change between the stages is left out.
    pub fn new(name: &str, on: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(&name).chain(on) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// What a client sends as `auth`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthData {
    /// The stage that it attempts; none to ask how far it is.
    pub stage: Option<String>,
    /// The session.
    pub session: Option<String>,
    /// For a password: whose. None for the one who asks.
    pub identifier: Option<Identifier>,
    /// The password.
    pub password: Option<String>,
    /// The registration token.
    pub token: Option<String>,
}

impl std::fmt::Debug for AuthData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthData").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// A request that needs user-interactive authentication.
#[derive(Debug)]
pub struct Interaction<'a> {
    /// Who asks, if they are logged in.
    pub requester: Option<&'a Requester>,
    /// For what.
    pub operation: Operation,
    /// The ways to get there; at least one.
    pub flows: Vec<Flow>,
    /// What the client sent.
    pub auth: Option<&'a AuthData>,
    /// The client's address, for its limit.
    pub address: Option<IpAddr>,
}

/// Proof that somebody went through a flow. Made here only, good for one operation.
#[derive(Debug)]
pub struct Authorised {
    /// The registration token that was shown. Used up when the account is made.
    pub(crate) registration_token: Option<String>,
}

/// Why an attempt on a stage failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// The password is wrong.
    #[error("wrong password")]
    WrongPassword,
    /// The registration token is not valid.
    #[error("invalid registration token")]
    InvalidToken,
    /// No flow has this stage next.
    #[error("this stage is not offered, or not next")]
    NotOffered,
    /// Something that the stage needs was not sent.
    #[error("`{0}` is missing")]
    Missing(&'static str),
}

/// What is still to be done: the body of a 401.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The session to go on with.
    pub session: String,
    /// The ways to get there.
    pub flows: Vec<Flow>,
    /// What is done.
    pub completed: Vec<Stage>,
    /// Why the last attempt failed.
    pub error: Option<StageError>,
}

/// Why a request does not get past authentication.
#[derive(Debug, thiserror::Error)]
pub enum UiaError {
    /// There is more to do.
    #[error("further authentication is required")]
    Challenge(Box<Challenge>),
    /// The session is for another user, device or operation.
    #[error("the session is for another request")]
    OtherRequest,
    /// The credentials are those of another user than the one who asks.
    #[error("the credentials are those of another user")]
    OtherUser,
    /// Too many attempts.
    #[error(transparent)]
    LimitExceeded(#[from] LimitExceeded),
    /// Too many passwords are being checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A stage that is attempted on a page of its own, by whoever knows the session.
#[derive(Debug)]
pub struct OutOfBand<'a> {
    /// The session.
    pub session: &'a str,
    /// The stage; a password is never asked for this way.
    pub stage: Stage,
    /// The registration token.
    pub token: Option<&'a str>,
    /// The client's address, for its limit.
    pub address: IpAddr,
}

/// Why a stage is not completed out of band.
#[derive(Debug, thiserror::Error)]
pub enum FallbackError {
    /// There is no such session, or it is over.
    #[error("unknown session")]
    UnknownSession,
    /// What was shown is not enough.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// Too many attempts, or the store failed.
    #[error(transparent)]
    Attempt(#[from] UiaError),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Owner {
    user: Option<UserNid>,
    device: Option<OwnedDeviceId>,
    operation: Operation,
}

#[derive(Clone, Debug)]
struct Session {
    owner: Owner,
    started: Duration,
    /// The ways to get there, as the first request offered them.
    flows: Vec<Flow>,
    completed: Vec<Stage>,
    registration_token: Option<String>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_id: HashMap<Arc<str>, Session>,
    /// The sessions of each user, oldest first; those that have ended meanwhile are passed over.
    by_user: HashMap<Option<UserNid>, VecDeque<Arc<str>>>,
}

impl Sessions {
    fn insert(&mut self, id: Arc<str>, session: Session, now: Duration) {
        let bound = if session.owner.user.is_some() { MAX_PER_USER } else { MAX_ANONYMOUS };
        let queue = self.by_user.entry(session.owner.user).or_default();
        while let Some(oldest) = queue.front() {
            let over = self.by_id.get(oldest).is_none_or(|session| now >= session.started + LIFETIME);
            if !over && queue.len() < bound {
                break;
            }
            self.by_id.remove(oldest);
            queue.pop_front();
        }
        queue.push_back(Arc::clone(&id));
        self.by_id.insert(id, session);
    }

    fn get(&mut self, id: &str, now: Duration) -> Option<&mut Session> {
        self.by_id.get_mut(id).filter(|session| now < session.started + LIFETIME)
    }

    fn clean(&mut self, now: Duration) {
        self.by_id.retain(|_, session| now < session.started + LIFETIME);
        self.by_user.retain(|_, queue| {
            queue.retain(|id| self.by_id.contains_key(id));
            !queue.is_empty()
        });
    }
}

/// User-interactive authentication.
#[derive(Debug)]
pub(crate) struct Uia {
    ground: Ground,
    logins: Arc<Logins>,
    registration_tokens: Arc<RegistrationTokens>,
    limits: Arc<RateLimits>,
    sessions: Mutex<Sessions>,
}

impl Uia {
    pub(crate) fn new(
        ground: Ground,
        logins: Arc<Logins>,
        registration_tokens: Arc<RegistrationTokens>,
        limits: Arc<RateLimits>,
    ) -> Self {
        Self { ground, logins, registration_tokens, limits, sessions: Mutex::default() }
    }

    /// Takes a request as far as its `auth` goes. Success means that a flow is complete; the session is over then.
    pub(crate) async fn check(&self, interaction: Interaction<'_>) -> Result<Authorised, UiaError> {
        let Interaction { requester, operation, flows, auth, address } = interaction;
        let owner = Owner {
            user: requester.map(|r| r.user_nid),
            device: requester.and_then(|r| r.device_id.clone()),
            operation,
        };
        let id = self.session(&owner, auth.and_then(|auth| auth.session.as_deref()), &flows)?;
        let mut error = None;
        if let Some(auth) = auth
            && let Some(kind) = &auth.stage
        {
            let completed = self.completed(&id);
            let stage =
                Stage::parse(kind).filter(|stage| is_next(&flows, &completed, *stage) || completed.contains(stage));
            match stage {
                Some(stage) if completed.contains(&stage) => {}
                Some(stage) => match self.attempt(stage, requester, auth, address).await? {
                    Ok(()) => self.complete(&id, stage, auth.token.as_deref()),
                    Err(failed) => error = Some(failed),
                },
                None => error = Some(StageError::NotOffered),
            }
        }
        self.finish(&id, flows, error)
    }

    /// The session that the client names, or a new one if it names none or one that is over.
    fn session(&self, owner: &Owner, named: Option<&str>, flows: &[Flow]) -> Result<Arc<str>, UiaError> {
        let now = self.ground.clock.monotonic();
        let mut sessions = self.sessions.lock();
        if let Some(named) = named
            && let Some(session) = sessions.get(named, now)
        {
            return if session.owner == *owner { Ok(named.into()) } else { Err(UiaError::OtherRequest) };
        }
        let id: Arc<str> = self.ground.random.token::<18>().into();
        let session = Session {
            owner: owner.clone(),
            started: now,
            flows: flows.to_vec(),
            completed: Vec::new(),
            registration_token: None,
        };
        sessions.insert(Arc::clone(&id), session, now);
        Ok(id)
    }

    fn completed(&self, id: &str) -> Vec<Stage> {
        self.sessions.lock().by_id.get(id).map(|session| session.completed.clone()).unwrap_or_default()
    }

    fn complete(&self, id: &str, stage: Stage, token: Option<&str>) {
        if let Some(session) = self.sessions.lock().by_id.get_mut(id)
            && !session.completed.contains(&stage)
        {
            session.completed.push(stage);
            if stage == Stage::RegistrationToken {
                session.registration_token = token.map(str::to_owned);
            }
        }
    }

    /// Ends the session if a flow is complete. Of two requests that complete it at once, one gets through.
    fn finish(&self, id: &str, flows: Vec<Flow>, error: Option<StageError>) -> Result<Authorised, UiaError> {
        let mut sessions = self.sessions.lock();
        let completed = sessions.by_id.get(id).map(|session| session.completed.clone()).unwrap_or_default();
        if error.is_none()
            && flows.contains(&completed)
            && let Some(session) = sessions.by_id.remove(id)
        {
            return Ok(Authorised { registration_token: session.registration_token });
        }
        Err(UiaError::Challenge(Box::new(Challenge { session: id.to_owned(), flows, completed, error })))
    }

    async fn attempt(
        &self,
        stage: Stage,
        requester: Option<&Requester>,
        auth: &AuthData,
        address: Option<IpAddr>,
    ) -> Result<Result<(), StageError>, UiaError> {
        match stage {
            Stage::Dummy => Ok(Ok(())),
            Stage::RegistrationToken => self.attempt_token(auth.token.as_deref(), address).await,
            Stage::Password => self.attempt_password(requester, auth).await,
        }
    }

    async fn attempt_token(
        &self,
        token: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Result<(), StageError>, UiaError> {
        let Some(token) = token else { return Ok(Err(StageError::Missing("token"))) };
        if let Some(address) = address {
            self.limits.check(Limit::RegistrationToken(address))?;
        }
        let valid = self.registration_tokens.is_valid(token).await?;
        Ok(if valid { Ok(()) } else { Err(StageError::InvalidToken) })
    }

    /// Whether a session goes on with this stage.
    pub(crate) fn awaits(&self, session: &str, stage: Stage) -> bool {
        let now = self.ground.clock.monotonic();
        let mut sessions = self.sessions.lock();
        sessions.get(session, now).is_some_and(|session| is_next(&session.flows, &session.completed, stage))
    }

    /// Completes a stage for the client that holds the session, which then asks again with the session alone.
    pub(crate) async fn complete_out_of_band(&self, attempt: OutOfBand<'_>) -> Result<(), FallbackError> {
        let OutOfBand { session, stage, token, address } = attempt;
        if !self.awaits(session, stage) {
            return Err(FallbackError::UnknownSession);
        }
        match stage {
            Stage::Dummy => {}
            Stage::RegistrationToken => self.attempt_token(token, Some(address)).await??,
            Stage::Password => return Err(StageError::NotOffered.into()),
        }
        self.complete(session, stage, token);
        Ok(())
    }

    async fn attempt_password(
        &self,
        requester: Option<&Requester>,
        auth: &AuthData,
    ) -> Result<Result<(), StageError>, UiaError> {
        let Some(password) = &auth.password else { return Ok(Err(StageError::Missing("password"))) };
        let own = || requester.map(|requester| Identifier::User(requester.user_id.to_string()));
        let Some(identifier) = auth.identifier.clone().or_else(own) else {
            return Ok(Err(StageError::Missing("identifier")));
        };
        let claimed = self.logins.find(&identifier).await?;
        if let Some(requester) = requester
            && claimed.account.as_ref().is_some_and(|(user, _)| *user != requester.user_nid)
        {
            return Err(UiaError::OtherUser);
        }
        match self.logins.verify(&claimed, password).await {
            Ok(_) => Ok(Ok(())),
            Err(LoginError::LimitExceeded(exceeded)) => Err(exceeded.into()),
            Err(LoginError::Password(error)) => Err(error.into()),
            Err(LoginError::Store(error)) => Err(error.into()),
            Err(LoginError::BadCredentials | LoginError::Deactivated | LoginError::Locked | LoginError::Device(_)) => {
                Ok(Err(StageError::WrongPassword))
            }
        }
    }

    /// Sessions that are held, for metrics.
    pub(crate) fn held(&self) -> usize {
        self.sessions.lock().by_id.len()
    }

    /// Drops the sessions that are over.
    pub(crate) fn clean(&self) {
        let now = self.ground.clock.monotonic();
        self.sessions.lock().clean(now);
    }
}

/// Whether a flow goes on with this stage after those that are completed.
fn is_next(flows: &[Flow], completed: &[Stage], stage: Stage) -> bool {
    flows.iter().any(|flow| flow.starts_with(completed) && flow.get(completed.len()) == Some(&stage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Limits, Options, Rate,
        testing::{World, options, token},
    };

    fn password(password: &str, session: Option<&str>) -> AuthData {
        AuthData {
            stage: Some("m.login.password".to_owned()),
            session: session.map(str::to_owned),
            password: Some(password.to_owned()),
            ..AuthData::default()
        }
    }

    fn dummy(session: Option<&str>) -> AuthData {
        AuthData { stage: Some("m.login.dummy".to_owned()), session: session.map(str::to_owned), ..AuthData::default() }
    }

    async fn requester(world: &World, name: &str) -> Requester {
        let registered = world.user(name).await;
        world.users.authenticate(&token(&registered)).await.expect("let in")
    }

    async fn check(
        world: &World,
        requester: Option<&Requester>,
        operation: &str,
        flows: &[&[Stage]],
        auth: Option<&AuthData>,
    ) -> Result<Authorised, UiaError> {
        let flows = flows.iter().map(|flow| flow.to_vec()).collect();
        let operation = Operation::new(operation, &["x"]);
        world.users.interact(Interaction { requester, operation, flows, auth, address: None }).await
    }

    fn challenge(result: Result<Authorised, UiaError>) -> Challenge {
        match result {
            Err(UiaError::Challenge(challenge)) => *challenge,
            other => panic!("{other:?}"),
        }
    }

    const BY_PASSWORD: &[&[Stage]] = &[&[Stage::Password]];

    #[tokio::test]
    async fn a_password_opens_the_door_once() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let first = challenge(check(&world, Some(&bob), "delete", BY_PASSWORD, None).await);
        assert_eq!((first.completed.as_slice(), first.error), (&[][..], None));
        let wrong =
            check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&password("wrong", Some(&first.session)))).await;
        let wrong = challenge(wrong);
        assert_eq!((wrong.session.as_str(), wrong.error), (first.session.as_str(), Some(StageError::WrongPassword)));
        let right = password("secret", Some(&first.session));
        check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&right)).await.expect("authorised");
        let replayed = AuthData { stage: None, password: None, ..right };
        let next = challenge(check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&replayed)).await);
        assert_ne!(next.session, first.session, "the session is over");
    }

    #[tokio::test]
    async fn a_first_request_may_bring_the_password_along() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        assert!(check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&password("secret", None))).await.is_ok());
        let unknown = password("secret", Some("no such session"));
        assert!(check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&unknown)).await.is_ok());
    }

    #[tokio::test]
    async fn a_session_is_good_for_its_user_device_and_operation_only() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let carol = requester(&world, "carol").await;
        let session = challenge(check(&world, Some(&bob), "delete", BY_PASSWORD, None).await).session;
        let auth = password("secret", Some(&session));
        let other_device = Requester { device_id: Some("OTHER".into()), ..bob.clone() };
        for (requester, operation) in [(&carol, "delete"), (&other_device, "delete"), (&bob, "deactivate")] {
            let refused = check(&world, Some(requester), operation, BY_PASSWORD, Some(&auth)).await;
            assert!(matches!(refused, Err(UiaError::OtherRequest)));
        }
        assert!(matches!(check(&world, None, "delete", BY_PASSWORD, Some(&auth)).await, Err(UiaError::OtherRequest)));
        assert!(check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&auth)).await.is_ok());
    }

    #[tokio::test]
    async fn credentials_of_another_user_are_refused_right_or_wrong() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        requester(&world, "carol").await;
        for pass in ["secret", "wrong"] {
            let auth = AuthData { identifier: Some(Identifier::User("@carol:hs1".to_owned())), ..password(pass, None) };
            assert!(matches!(
                check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&auth)).await,
                Err(UiaError::OtherUser)
            ));
        }
        let nobody = AuthData { identifier: Some(Identifier::User("nobody".to_owned())), ..password("secret", None) };
        let refused = challenge(check(&world, Some(&bob), "delete", BY_PASSWORD, Some(&nobody)).await);
        assert_eq!(refused.error, Some(StageError::WrongPassword));
    }

    #[tokio::test]
    async fn stages_are_done_in_order_and_each_once() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let flows: &[&[Stage]] = &[&[Stage::Password, Stage::Dummy]];
        let early = challenge(check(&world, Some(&bob), "x", flows, Some(&dummy(None))).await);
        assert_eq!((early.completed.len(), early.error), (0, Some(StageError::NotOffered)));
        let session = Some(early.session.as_str());
        let half = challenge(check(&world, Some(&bob), "x", flows, Some(&password("secret", session))).await);
        assert_eq!((half.completed.as_slice(), half.error), (&[Stage::Password][..], None));
        let again = challenge(check(&world, Some(&bob), "x", flows, Some(&password("wrong", session))).await);
        assert_eq!((again.completed.as_slice(), again.error), (&[Stage::Password][..], None), "not looked at twice");
        assert!(check(&world, Some(&bob), "x", flows, Some(&dummy(session))).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_missing_or_unknown_is_said() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let error =
            async |auth: AuthData| challenge(check(&world, Some(&bob), "x", BY_PASSWORD, Some(&auth)).await).error;
        let without = AuthData { password: None, ..password("", None) };
        assert_eq!(error(without).await, Some(StageError::Missing("password")));
        assert_eq!(
            error(AuthData { stage: Some("m.login.recaptcha".to_owned()), ..dummy(None) }).await,
            Some(StageError::NotOffered)
        );
        assert_eq!(error(dummy(None)).await, Some(StageError::NotOffered));
        assert_eq!(error(AuthData::default()).await, None);
        let anonymous = challenge(check(&world, None, "x", BY_PASSWORD, Some(&password("secret", None))).await);
        assert_eq!(anonymous.error, Some(StageError::Missing("identifier")));
    }

    #[tokio::test]
    async fn two_that_complete_a_session_at_once_do_not_both_get_through() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let flows: &[&[Stage]] = &[&[Stage::Password, Stage::Dummy]];
        let session = challenge(check(&world, Some(&bob), "x", flows, Some(&password("secret", None))).await).session;
        let auth = dummy(Some(&session));
        let (a, b) = tokio::join!(
            check(&world, Some(&bob), "x", flows, Some(&auth)),
            check(&world, Some(&bob), "x", flows, Some(&auth))
        );
        assert_eq!([a, b].iter().filter(|result| result.is_ok()).count(), 1);
    }

    #[tokio::test]
    async fn a_stage_completed_on_a_page_of_its_own_counts_in_its_turn() {
        let world = World::new().await;
        let flows: &[&[Stage]] = &[&[Stage::RegistrationToken, Stage::Dummy]];
        let session = challenge(check(&world, None, "x", flows, None).await).session;
        world.users.registration_tokens().create(Some("letmein"), None, None).await.expect("made");
        let users = &world.users;
        let attempt = async |session: &str, stage, token| {
            let address = "192.0.2.1".parse().expect("an address");
            users.complete_out_of_band(OutOfBand { session, stage, token, address }).await
        };
        assert!(users.awaits(&session, Stage::RegistrationToken) && !users.awaits(&session, Stage::Dummy));
        let early = attempt(&session, Stage::Dummy, None).await;
        assert!(matches!(early, Err(FallbackError::UnknownSession)));
        let stranger = attempt("no such session", Stage::RegistrationToken, Some("letmein")).await;
        assert!(matches!(stranger, Err(FallbackError::UnknownSession)));
        for (token, why) in [(None, StageError::Missing("token")), (Some("guess"), StageError::InvalidToken)] {
            let refused = attempt(&session, Stage::RegistrationToken, token).await;
            assert!(matches!(refused, Err(FallbackError::Stage(error)) if error == why));
        }
        attempt(&session, Stage::RegistrationToken, Some("letmein")).await.expect("completed");
        attempt(&session, Stage::Dummy, None).await.expect("completed");
        let alone = AuthData { session: Some(session), ..AuthData::default() };
        let authorised = check(&world, None, "x", flows, Some(&alone)).await.expect("authorised");
        assert_eq!(authorised.registration_token.as_deref(), Some("letmein"));
    }

    #[tokio::test]
    async fn a_password_is_never_taken_on_a_page_of_its_own() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let session = challenge(check(&world, Some(&bob), "x", BY_PASSWORD, None).await).session;
        let address = "192.0.2.1".parse().expect("an address");
        let attempt = OutOfBand { session: &session, stage: Stage::Password, token: Some("secret"), address };
        let refused = world.users.complete_out_of_band(attempt).await;
        assert!(matches!(refused, Err(FallbackError::Stage(StageError::NotOffered))));
    }

    #[tokio::test]
    async fn sessions_end_and_are_bounded() {
        let world = World::new().await;
        let bob = requester(&world, "bob").await;
        let flows: &[&[Stage]] = &[&[Stage::Dummy]];
        let start = async || challenge(check(&world, Some(&bob), "x", flows, None).await).session;
        let oldest = start().await;
        for _ in 0..MAX_PER_USER {
            start().await;
        }
        let held = || world.users.uia_sessions();
        assert_eq!(held(), MAX_PER_USER);
        let asked = AuthData { session: Some(oldest.clone()), ..AuthData::default() };
        assert_ne!(challenge(check(&world, Some(&bob), "x", flows, Some(&asked)).await).session, oldest);
        let newest = start().await;
        world.pass(15 * 60);
        let late = AuthData { session: Some(newest.clone()), ..AuthData::default() };
        assert_ne!(challenge(check(&world, Some(&bob), "x", flows, Some(&late)).await).session, newest);
        world.pass(15 * 60);
        world.users.run_due().await.expect("cleaned");
        assert_eq!(held(), 0);
    }

    #[tokio::test]
    async fn guessing_passwords_here_counts_as_at_login() {
        let limits = Limits {
            failed_logins_per_account: Rate::new(0.01, 1),
            logins_per_account: Rate::new(1.0, 99),
            ..Limits::default()
        };
        let world = World::with(Options { limits, ..options() }).await;
        let bob = requester(&world, "bob").await;
        for _ in 0..2 {
            challenge(check(&world, Some(&bob), "x", BY_PASSWORD, Some(&password("wrong", None))).await);
        }
        let refused = check(&world, Some(&bob), "x", BY_PASSWORD, Some(&password("secret", None))).await;
        assert!(matches!(refused, Err(UiaError::LimitExceeded(_))));
    }
}
