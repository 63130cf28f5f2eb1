//! Rates: how often somebody may do something.

use std::{net::IpAddr, time::Duration};

use governor::{Quota, RateLimiter, clock::Clock as _, middleware::NoOpMiddleware, state::keyed::DashMapStateStore};
use primitives::{KeyedHash, Random, SharedClock, UserNid};
use quick_cache::sync::Cache;
use ruma::RoomId;

/// Keys are spread over this many buckets by a keyed hash, so that a limit's memory is bounded whatever comes: under a flood two keys may
/// share a bucket, but nobody can choose which.
const BUCKETS: u64 = 1 << 18;

/// The longest a bucket takes to fill again: a rate of zero means this.
const SLOWEST_REFILL: Duration = Duration::from_hours(30 * 365 * 24);

/// A rate and the burst that it allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How often a second, in the long run. Infinite for no limit.
    pub per_second: f64,
    /// How often at once.
    pub burst: u32,
}

impl Rate {
    /// This often a second, and this often at once.
    pub const fn new(per_second: f64, burst: u32) -> Self {
        Self { per_second, burst }
    }
}

/// The rates of accounts and of what users do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Whether rates are enforced at all.
    pub enforce: bool,
    /// Events that a user sends.
    pub messages_per_user: Rate,
    /// Logins from one address, successful or not.
    pub logins_per_address: Rate,
    /// Logins to one account, successful or not.
    pub logins_per_account: Rate,
    /// Logins to one account with a wrong password.
    pub failed_logins_per_account: Rate,
    /// Registrations from one address, and looks at whether a name or a registration token is good.
    pub registrations_per_address: Rate,
    /// Joins of one user to rooms that this server is in.
    pub local_joins_per_user: Rate,
    /// Joins of one user to rooms that this server is not in.
    pub remote_joins_per_user: Rate,
    /// Joins to one room.
    pub joins_per_room: Rate,
    /// Invites of one user that other servers send.
    pub remote_invites_per_user: Rate,
    /// Reports that a user makes, kept or not.
    pub reports_per_user: Rate,
    /// `OpenID` tokens that a user asks for.
    pub openid_tokens_per_user: Rate,
    /// Receipts, typing notifications and presence that a user sends.
    pub updates_per_user: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enforce: true,
            messages_per_user: Rate::new(5.0, 50),
            logins_per_address: Rate::new(0.003, 5),
            logins_per_account: Rate::new(0.003, 5),
            failed_logins_per_account: Rate::new(0.17, 3),
            registrations_per_address: Rate::new(0.17, 3),
            local_joins_per_user: Rate::new(0.1, 10),
            remote_joins_per_user: Rate::new(0.01, 10),
            joins_per_room: Rate::new(1.0, 10),
            remote_invites_per_user: Rate::new(0.1, 50),
            reports_per_user: Rate::new(0.1, 10),
            openid_tokens_per_user: Rate::new(0.5, 20),
            updates_per_user: Rate::new(10.0, 100),
        }
    }
}

/// Something was done too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests; try again in {} ms", retry_after.as_millis())]
pub struct LimitExceeded {
    /// After this time it is allowed again.
    pub retry_after: Duration,
}

/// What is limited, and for whom.
#[derive(Clone, Copy, Debug)]
pub enum Limit<'a> {
    /// A user sends an event.
    Messages(UserNid),
    /// Somebody logs in from an address.
    LoginAddress(IpAddr),
    /// Somebody logs in to the account of this local part.
    LoginAccount(&'a str),
    /// Somebody registers from an address.
    Registration(IpAddr),
    /// Somebody tries a registration token from an address. At the rate of registrations, but counted apart.
    RegistrationToken(IpAddr),
    /// A user joins a room that this server is in.
    JoinsLocal(UserNid),
    /// A user joins a room that this server is not in.
    JoinsRemote(UserNid),
    /// Somebody joins a room.
    JoinsOfRoom(&'a RoomId),
    /// A user is invited by one of another server.
    InvitesRemote(UserNid),
    /// A user reports something.
    Reports(UserNid),
    /// A user asks for an `OpenID` token.
    OpenIdTokens(UserNid),
    /// A user sends a receipt, a typing notification or their presence.
    Updates(UserNid),
}

impl Limit<'_> {
    /// What is limited, as metrics call it.
    fn name(&self) -> &'static str {
        match self {
            Self::Messages(_) => "messages",
            Self::LoginAddress(_) => "login_address",
            Self::LoginAccount(_) => "login_account",
            Self::Registration(_) => "registration",
            Self::RegistrationToken(_) => "registration_token",
            Self::JoinsLocal(_) => "joins_local",
            Self::JoinsRemote(_) => "joins_remote",
            Self::JoinsOfRoom(_) => "joins_of_room",
            Self::InvitesRemote(_) => "invites_remote",
            Self::Reports(_) => "reports",
            Self::OpenIdTokens(_) => "openid_tokens",
            Self::Updates(_) => "updates",
        }
    }
}

#[derive(Clone)]
struct Monotonic(SharedClock);

impl std::fmt::Debug for Monotonic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monotonic")
    }
}

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

type Limiter = RateLimiter<u32, DashMapStateStore<u32>, Monotonic, NoOpMiddleware<Duration>>;

/// One rate, kept for each of any number of keys in bounded memory.
#[derive(Debug)]
pub struct KeyedLimit {
    /// None if there is no limit.
    limiter: Option<Limiter>,
    clock: Monotonic,
    hash: KeyedHash,
}

impl KeyedLimit {
    /// A limit at this rate for each key. A burst of 0 counts as 1.
    pub fn new(rate: Rate, clock: SharedClock, random: &Random) -> Self {
        let clock = Monotonic(clock);
        let limiter = quota(rate).map(|quota| Limiter::new(quota, DashMapStateStore::default(), clock.clone()));
        Self { limiter, clock, hash: KeyedHash::new(random.bytes()) }
    }

    /// Counts one more for the key, unless that is too many.
    pub fn check(&self, key: &[u8]) -> Result<(), LimitExceeded> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let bucket = u64::from_be_bytes(self.hash.hash8(&[key])) % BUCKETS;
        let bucket = u32::try_from(bucket).expect("fewer buckets than u32 has values");
        let refused = limiter.check_key(&bucket).err();
        refused.map_or(Ok(()), |until| Err(LimitExceeded { retry_after: until.wait_time_from(self.clock.now()) }))
    }

    /// Forgets the keys whose burst is whole again.
    pub fn clean(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

/// The rate in governor's terms; none if it is no limit.
fn quota(rate: Rate) -> Option<Quota> {
    let burst = std::num::NonZeroU32::new(rate.burst.max(1)).expect("at least 1");
    let slowest = SLOWEST_REFILL / burst.get();
    let period = Duration::try_from_secs_f64(1.0 / rate.per_second).map_or(slowest, |period| period.min(slowest));
    Quota::with_period(period).map(|quota| quota.allow_burst(burst))
}

/// Accounts that can be kept out for wrong passwords at the same time.
const MAX_BLOCKED: usize = 10_000;

/// All rates of [`Limits`].
#[derive(Debug)]
pub struct RateLimits {
    enforce: bool,
    clock: Monotonic,
    messages: KeyedLimit,
    login_address: KeyedLimit,
    login_account: KeyedLimit,
    login_failures: KeyedLimit,
    registration: KeyedLimit,
    registration_token: KeyedLimit,
    joins_local: KeyedLimit,
    joins_remote: KeyedLimit,
    joins_of_room: KeyedLimit,
    invites_remote: KeyedLimit,
    reports: KeyedLimit,
    openid_tokens: KeyedLimit,
    updates: KeyedLimit,
    /// Until when (monotonic) an account takes no password, because too many were wrong.
    blocked: Cache<String, Duration>,
}

impl RateLimits {
    /// Fresh limits at these rates.
    pub fn new(limits: Limits, clock: &SharedClock, random: &Random) -> Self {
        let keyed = |rate| KeyedLimit::new(rate, clock.clone(), random);
        Self {
            enforce: limits.enforce,
            clock: Monotonic(clock.clone()),
            messages: keyed(limits.messages_per_user),
            login_address: keyed(limits.logins_per_address),
            login_account: keyed(limits.logins_per_account),
            login_failures: keyed(limits.failed_logins_per_account),
            registration: keyed(limits.registrations_per_address),
            registration_token: keyed(limits.registrations_per_address),
            joins_local: keyed(limits.local_joins_per_user),
            joins_remote: keyed(limits.remote_joins_per_user),
            joins_of_room: keyed(limits.joins_per_room),
            invites_remote: keyed(limits.remote_invites_per_user),
            reports: keyed(limits.reports_per_user),
            openid_tokens: keyed(limits.openid_tokens_per_user),
            updates: keyed(limits.updates_per_user),
            blocked: Cache::new(MAX_BLOCKED),
        }
    }

    /// Counts one more, unless that is too many.
    pub fn check(&self, limit: Limit<'_>) -> Result<(), LimitExceeded> {
        if !self.enforce {
            return Ok(());
        }
        let checked = match limit {
            Limit::Messages(user) => self.messages.check(&user.0.to_be_bytes()),
            Limit::LoginAddress(address) => self.login_address.check(&network(address)),
            Limit::LoginAccount(localpart) => self.login_account.check(localpart.as_bytes()),
            Limit::Registration(address) => self.registration.check(&network(address)),
            Limit::RegistrationToken(address) => self.registration_token.check(&network(address)),
            Limit::JoinsLocal(user) => self.joins_local.check(&user.0.to_be_bytes()),
            Limit::JoinsRemote(user) => self.joins_remote.check(&user.0.to_be_bytes()),
            Limit::JoinsOfRoom(room) => self.joins_of_room.check(room.as_bytes()),
            Limit::InvitesRemote(user) => self.invites_remote.check(&user.0.to_be_bytes()),
            Limit::Reports(user) => self.reports.check(&user.0.to_be_bytes()),
            Limit::OpenIdTokens(user) => self.openid_tokens.check(&user.0.to_be_bytes()),
            Limit::Updates(user) => self.updates.check(&user.0.to_be_bytes()),
        };
        if checked.is_err() {
            metrics::counter!("sundial_limit_exceeded_total", "limit" => limit.name()).increment(1);
        }
        checked
    }

    /// Whether an account takes a password now. Counts nothing.
    pub(crate) fn may_try_password(&self, localpart: &str) -> Result<(), LimitExceeded> {
        let until = self.blocked.get(localpart).filter(|_| self.enforce);
        let left = until.and_then(|until| until.checked_sub(self.clock.now())).filter(|left| !left.is_zero());
        left.map_or(Ok(()), |retry_after| Err(LimitExceeded { retry_after }))
    }

    /// Counts a wrong password; when they are too many, [`Self::may_try_password`] says no for a while.
    pub(crate) fn wrong_password(&self, localpart: &str) {
        if let Err(exceeded) = self.login_failures.check(localpart.as_bytes()) {
            self.blocked.insert(localpart.to_owned(), self.clock.now() + exceeded.retry_after);
        }
    }

    /// Forgets whoever has not done anything for long enough.
    pub fn clean(&self) {
        let doors = [
            &self.login_address,
            &self.login_account,
            &self.login_failures,
            &self.registration,
            &self.registration_token,
        ];
        let rooms = [
            &self.messages,
            &self.joins_local,
            &self.joins_remote,
            &self.joins_of_room,
            &self.updates,
            &self.invites_remote,
        ];
        let rest = [&self.reports, &self.openid_tokens];
        doors.into_iter().chain(rooms).chain(rest).for_each(KeyedLimit::clean);
    }
}

/// What counts as one address: all of an IPv4 address, the first 64 bits of an IPv6 one, which is what one subscriber gets.
fn network(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets()[..8].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use primitives::{ManualClock, UnixMillis};

    use super::*;

    fn limits(limits: Limits) -> (RateLimits, std::sync::Arc<ManualClock>) {
        let clock = ManualClock::new(UnixMillis(0));
        let shared: SharedClock = clock.clone();
        (RateLimits::new(limits, &shared, &Random::seeded(3)), clock)
    }

    #[test]
    fn a_burst_then_the_rate_and_the_answer_says_when() {
        let (limits, clock) = limits(Limits { messages_per_user: Rate::new(2.0, 3), ..Limits::default() });
        let send = || limits.check(Limit::Messages(UserNid(7)));
        assert_eq!([send(), send(), send()], [Ok(()); 3]);
        assert_eq!(send(), Err(LimitExceeded { retry_after: Duration::from_millis(500) }));
        assert_eq!(limits.check(Limit::Messages(UserNid(8))), Ok(()));
        clock.advance(Duration::from_millis(500));
        assert_eq!(send(), Ok(()));
        assert!(send().is_err());
    }

    #[test]
    fn limits_that_are_not_enforced_let_everything_pass() {
        let (limits, _) = limits(Limits { enforce: false, messages_per_user: Rate::new(0.0, 0), ..Limits::default() });
        assert!((0..1_000).all(|_| limits.check(Limit::Messages(UserNid(1))).is_ok()));
        (0..10).for_each(|_| limits.wrong_password("bob"));
        assert_eq!(limits.may_try_password("bob"), Ok(()));
    }

    #[test]
    fn a_rate_of_zero_never_refills_and_an_infinite_one_never_ends() {
        let (limits, clock) = limits(Limits {
            messages_per_user: Rate::new(0.0, 1),
            local_joins_per_user: Rate::new(f64::INFINITY, 1),
            ..Limits::default()
        });
        assert!(limits.check(Limit::Messages(UserNid(1))).is_ok());
        clock.advance(Duration::from_hours(365 * 24));
        assert!(limits.check(Limit::Messages(UserNid(1))).is_err());
        assert!((0..1_000).all(|_| limits.check(Limit::JoinsLocal(UserNid(1))).is_ok()));
    }

    #[test]
    fn wrong_passwords_keep_an_account_closed_for_a_while() {
        let (limits, clock) = limits(Limits { failed_logins_per_account: Rate::new(0.1, 2), ..Limits::default() });
        for _ in 0..3 {
            assert_eq!(limits.may_try_password("bob"), Ok(()));
            limits.wrong_password("bob");
        }
        assert_eq!(limits.may_try_password("bob"), Err(LimitExceeded { retry_after: Duration::from_secs(10) }));
        assert_eq!(limits.may_try_password("alice"), Ok(()));
        clock.advance(Duration::from_secs(10));
        assert_eq!(limits.may_try_password("bob"), Ok(()));
    }

    #[test]
    fn keys_are_forgotten_when_they_are_whole_again() {
        let clock = ManualClock::new(UnixMillis(0));
        let limit = KeyedLimit::new(Rate::new(1.0, 1), clock.clone(), &Random::seeded(4));
        assert!((0_u32..100).all(|key| limit.check(&key.to_be_bytes()).is_ok()));
        let keys = || limit.limiter.as_ref().expect("limited").len();
        assert_eq!(keys(), 100);
        clock.advance(Duration::from_secs(5));
        limit.clean();
        assert_eq!(keys(), 0);
    }

    #[test]
    fn one_subscriber_is_one_address() {
        let parse = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(parse("2001:db8:1:2:3::4"), parse("2001:db8:1:2:ffff::"));
        assert_ne!(parse("2001:db8:1:2::"), parse("2001:db8:1:3::"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}
