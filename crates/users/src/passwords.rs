//! Passwords: Argon2id on a bounded pool, the same work for a user who doesn't exist.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use primitives::Random;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::options::PasswordHashCost;

/// The longest password, in bytes.
pub const MAX_PASSWORD_BYTES: usize = 512;

/// Requests that may wait for a hash; one more is turned away.
const MAX_WAITING: usize = 256;

/// Why a password was not hashed or checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// A new password is empty.
    #[error("a password cannot be empty")]
    Empty,
    /// A new password is longer than [`MAX_PASSWORD_BYTES`].
    #[error("a password can have at most {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    /// Too many requests wait for a hash already.
    #[error("too many passwords are being checked; try again")]
    Busy,
}

/// The configured cost cannot be worked with.
#[derive(Debug, thiserror::Error)]
#[error("parameters of the password hash: {0}")]
pub struct BadCost(String);

/// Hashes passwords and checks them against hashes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    hasher: Argon2<'static>,
    random: Random,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The hash that stands in for users who don't exist or have no password.
    dummy: Arc<str>,
}

impl Passwords {
    /// A pool of the given cost.
    pub fn new(cost: PasswordHashCost, random: Random) -> Result<Self, BadCost> {
        let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, None);
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.map_err(|e| BadCost(e.to_string()))?);
        // Only its parameters matter: no password leads to 32 zero bytes.
        let dummy = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: hasher.params().try_into().map_err(|_| BadCost("no PHC form".to_owned()))?,
            salt: Some(argon2::password_hash::phc::Salt::new(&[0; 16]).map_err(|e| BadCost(e.to_string()))?),
            hash: Some(argon2::password_hash::phc::Output::new(&[0; 32]).map_err(|e| BadCost(e.to_string()))?),
        };
        Ok(Self {
            hasher,
            random,
            running: Arc::new(Semaphore::new(cost.at_once.max(1))),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            dummy: dummy.to_string().into(),
        })
    }

    /// The hash of a new password, in PHC format.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        let (hasher, salt) = (self.hasher.clone(), self.random.bytes::<16>());
        let password = Zeroizing::new(password.to_owned());
        self.run(move || {
            let hash = hasher.hash_password_with_salt(password.as_bytes(), &salt);
            hash.expect("16 bytes are a salt and the parameters were checked").to_string()
        })
        .await
    }

    /// Whether a password is the one that was hashed. Without a hash the same work is done, and the answer is no.
    pub async fn verify(&self, password: &str, hash: Option<&str>) -> Result<bool, PasswordError> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let known = hash.is_some();
        let hash = hash.unwrap_or(&self.dummy).to_owned();
        let hasher = self.hasher.clone();
        let password = Zeroizing::new(password.to_owned());
        let matches = self.run(move || hasher.verify_password(password.as_bytes(), hash.as_str()).is_ok()).await?;
        Ok(matches && known)
    }

    /// Whether a hash was made at another cost than is configured now.
    pub(crate) fn is_outdated(&self, hash: &str) -> bool {
        let params = PasswordHash::new(hash).ok().and_then(|hash| Params::try_from(&hash).ok());
        let cost = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        params.as_ref().map(cost) != Some(cost(self.hasher.params()))
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordError> {
        let _place = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        // The permit goes with the work: a caller that gives up does not make room for more than `at_once`.
        let permit = Arc::clone(&self.running).acquire_owned().await.expect("the semaphore is never closed");
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        Ok(task.await.expect("hashing does not panic and is not aborted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Passwords {
        let cost = PasswordHashCost { memory_kib: 8, iterations: 1, parallelism: 1, at_once: 1 };
        Passwords::new(cost, Random::seeded(1)).expect("valid")
    }

    #[tokio::test]
    async fn only_the_password_itself_matches() {
        let passwords = cheap();
        let hash = passwords.hash("übers3kr1t").await.expect("hashed");
        insta::assert_snapshot!(hash, @"$argon2id$v=19$m=8,t=1,p=1$YRgw02QaaPlKaQ3MJdH0sA$OsXq+RLxa9XpwNZkBBkhJHeIUPcFZPiSP7uL2MqFPVs");
        assert_eq!(passwords.verify("übers3kr1t", Some(&hash)).await, Ok(true));
        assert_eq!(passwords.verify("ubers3kr1t", Some(&hash)).await, Ok(false));
        assert_eq!(passwords.verify("", Some(&hash)).await, Ok(false));
        assert_eq!(passwords.verify("übers3kr1t", None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_hash_says_its_own_cost() {
        let hash = cheap().hash("secret").await.expect("hashed");
        let dearer = PasswordHashCost { memory_kib: 64, iterations: 2, parallelism: 1, at_once: 1 };
        let passwords = Passwords::new(dearer, Random::seeded(2)).expect("valid");
        assert_eq!(passwords.verify("secret", Some(&hash)).await, Ok(true));
        assert!(passwords.is_outdated(&hash));
        assert!(!passwords.is_outdated(&passwords.hash("secret").await.expect("hashed")));
    }

    #[tokio::test]
    async fn new_passwords_have_bounds_and_so_has_the_queue() {
        let passwords = cheap();
        assert_eq!(passwords.hash("").await, Err(PasswordError::Empty));
        assert_eq!(passwords.hash(&"x".repeat(513)).await, Err(PasswordError::TooLong));
        let full = passwords.waiting.acquire_many(256).await.expect("open");
        assert_eq!(passwords.hash("secret").await, Err(PasswordError::Busy));
        drop(full);
        assert!(passwords.hash("secret").await.is_ok());
    }

    #[test]
    fn an_impossible_cost_is_refused() {
        let cost = PasswordHashCost { memory_kib: 1, ..PasswordHashCost::default() };
        assert!(Passwords::new(cost, Random::seeded(1)).is_err());
    }
}
