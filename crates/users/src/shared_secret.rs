//! Registration over the shared secret, for scripts (`/_synapse/admin/v1/register`): a nonce, then an HMAC over it and the wish.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha1::Sha1;
use sha2::Sha256;

use crate::{
    devices::NewSession,
    ground::Ground,
    register::{Authority, NewAccount, RegisterError, Registered, Registration},
};

/// How long a nonce is good.
const LIFETIME: Duration = Duration::from_mins(1);
/// The bytes of a nonce: 16 random ones, 8 of the time it ends, 16 of a MAC over both.
const NONCE_BYTES: usize = 40;

/// Why nobody is registered.
#[derive(Debug, thiserror::Error)]
pub enum SharedSecretError {
    /// There is no shared secret.
    #[error("shared secret registration is not enabled")]
    Disabled,
    /// The nonce was not made here, is over or was used.
    #[error("unrecognised nonce")]
    BadNonce,
    /// The user name has a zero byte.
    #[error("invalid user name")]
    BadUsername,
    /// The password has a zero byte.
    #[error("invalid password")]
    BadPassword,
    /// The HMAC is wrong.
    #[error("HMAC incorrect")]
    BadMac,
    /// As with any registration.
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// A wish for an account, and the proof of knowing the secret.
#[derive(Debug)]
pub struct SharedSecretRequest {
    /// The nonce.
    pub nonce: String,
    /// The wished name.
    pub username: String,
    /// The display name to begin with.
    pub display_name: Option<String>,
    /// The password.
    pub password: String,
    /// May use the administration API.
    pub admin: bool,
    /// A label for the account.
    pub user_type: Option<String>,
    /// HMAC-SHA1 in hexadecimal over nonce, name, password, `admin` or `notadmin`, and the label if there is one, with zero bytes between.
    pub mac: String,
    /// The session to start; none if the client does not want one.
    pub session: Option<NewSession>,
}

/// Registration over the shared secret.
///
/// Nonces are not kept: each says when it ends and proves that it was made here. Only those that were used are remembered, and only who knows
/// the secret can use one, so that no stranger can fill the memory.
#[derive(Debug)]
pub struct SharedSecret {
    ground: Ground,
    secret: Option<String>,
    nonce_key: [u8; 32],
    registration: Arc<Registration>,
    used: Mutex<HashMap<[u8; NONCE_BYTES], Duration>>,
}

impl SharedSecret {
    pub(crate) fn new(secret: Option<String>, ground: Ground, registration: Arc<Registration>) -> Self {
        let (nonce_key, used) = (ground.random.bytes(), Mutex::default());
        Self { secret: secret.filter(|secret| !secret.is_empty()), ground, nonce_key, registration, used }
    }

    /// A nonce: good once, for a minute, until the server ends.
    pub fn nonce(&self) -> Result<String, SharedSecretError> {
        if self.secret.is_none() {
            return Err(SharedSecretError::Disabled);
        }
        let ends = self.ground.clock.monotonic() + LIFETIME;
        let ends = u64::try_from(ends.as_millis()).unwrap_or(u64::MAX);
        let mut nonce = [0; NONCE_BYTES];
        self.ground.random.fill(&mut nonce[..16]);
        nonce[16..24].copy_from_slice(&ends.to_be_bytes());
        let mac = self.nonce_mac(&nonce[..24]).finalize().into_bytes();
        nonce[24..].copy_from_slice(&mac[..16]);
        Ok(URL_SAFE_NO_PAD.encode(nonce))
    }

    fn nonce_mac(&self, front: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.nonce_key).expect("HMAC takes keys of any length");
        mac.update(front);
        mac
    }

    /// The bytes of a nonce that is good now, and when it ends.
    fn open(&self, nonce: &str) -> Option<([u8; NONCE_BYTES], Duration)> {
        let bytes: [u8; NONCE_BYTES] = URL_SAFE_NO_PAD.decode(nonce).ok()?.try_into().ok()?;
        let (front, mac) = bytes.split_at(24);
        self.nonce_mac(front).verify_truncated_left(mac).ok()?;
        let ends = Duration::from_millis(u64::from_be_bytes(front[16..].try_into().ok()?));
        (self.ground.clock.monotonic() < ends).then_some((bytes, ends))
    }

    /// Makes the account, if the MAC is right.
    pub async fn register(&self, request: SharedSecretRequest) -> Result<Registered, SharedSecretError> {
        let secret = self.secret.as_ref().ok_or(SharedSecretError::Disabled)?;
        let (nonce, ends) = self.open(&request.nonce).ok_or(SharedSecretError::BadNonce)?;
        if request.username.contains('\0') {
            return Err(SharedSecretError::BadUsername);
        }
        if request.password.contains('\0') {
            return Err(SharedSecretError::BadPassword);
        }
        let mac = decode_hex(&request.mac).ok_or(SharedSecretError::BadMac)?;
        expected_mac(secret, &request).verify_slice(&mac).map_err(|_| SharedSecretError::BadMac)?;
        self.use_up(nonce, ends)?;
        let SharedSecretRequest { username, display_name, password, admin, user_type, session, .. } = request;
        let new = NewAccount {
            authority: Authority::Administrator { admin, user_type },
            username: Some(username),
            password: Some(password),
            display_name,
            session,
        };
        Ok(self.registration.register(new).await?)
    }

    fn use_up(&self, nonce: [u8; NONCE_BYTES], ends: Duration) -> Result<(), SharedSecretError> {
        let now = self.ground.clock.monotonic();
        let mut used = self.used.lock();
        used.retain(|_, ends| now < *ends);
        if used.insert(nonce, ends).is_some() { Err(SharedSecretError::BadNonce) } else { Ok(()) }
    }
}

fn expected_mac(secret: &str, request: &SharedSecretRequest) -> Hmac<Sha1> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    let role = if request.admin { "admin" } else { "notadmin" };
    mac.update(request.nonce.as_bytes());
    for part in [&request.username, &request.password, role].into_iter().chain(request.user_type.as_deref()) {
        mac.update(b"\0");
        mac.update(part.as_bytes());
    }
    mac
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Options,
        names::NameError,
        testing::{World, options},
    };

    fn request(nonce: &str, username: &str, secret: &str) -> SharedSecretRequest {
        let mut request = SharedSecretRequest {
            nonce: nonce.to_owned(),
            username: username.to_owned(),
            display_name: None,
            password: "secret".to_owned(),
            admin: true,
            user_type: None,
            mac: String::new(),
            session: Some(NewSession::default()),
        };
        sign(&mut request, secret);
        request
    }

    fn sign(request: &mut SharedSecretRequest, secret: &str) {
        let mac = expected_mac(secret, request).finalize().into_bytes();
        let digits = mac.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        request.mac = digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect();
    }

    #[test]
    fn the_mac_is_over_what_scripts_sign() {
        let mut request = request("abc", "bob", "shared");
        insta::assert_snapshot!(request.mac, @"efe1e53635d6cc00f95db8027c493f21cf35470b");
        request.user_type = Some("bot".to_owned());
        sign(&mut request, "shared");
        insta::assert_snapshot!(request.mac, @"e3c5fa2b7620f4ccd6dea2870fdd3bd79c64d9ab");
    }

    #[tokio::test]
    async fn a_nonce_is_good_once() {
        let world = World::new().await;
        let shared = world.users.shared_secret();
        let nonce = shared.nonce().expect("enabled");
        let made = shared.register(request(&nonce, "Bob", "shared")).await.expect("registered");
        assert_eq!((made.user_id.as_str(), made.is_admin), ("@bob:hs1", true));
        let again = shared.register(request(&nonce, "carol", "shared")).await;
        assert!(matches!(again, Err(SharedSecretError::BadNonce)));
    }

    #[tokio::test]
    async fn a_nonce_is_good_for_a_minute_and_from_here_only() {
        let world = World::new().await;
        let nonce = world.users.shared_secret().nonce().expect("enabled");
        let mut bytes = URL_SAFE_NO_PAD.decode(&nonce).expect("base64");
        bytes[20] ^= 1;
        for forged in ["", "abc", &URL_SAFE_NO_PAD.encode(&bytes)] {
            let refused = world.users.shared_secret().register(request(forged, "bob", "shared")).await;
            assert!(matches!(refused, Err(SharedSecretError::BadNonce)), "{forged}");
        }
        let elsewhere = world.reopened().await.shared_secret().register(request(&nonce, "bob", "shared")).await;
        assert!(matches!(elsewhere, Err(SharedSecretError::BadNonce)));
        world.pass(60);
        let late = world.users.shared_secret().register(request(&nonce, "bob", "shared")).await;
        assert!(matches!(late, Err(SharedSecretError::BadNonce)));
    }

    #[tokio::test]
    async fn who_does_not_know_the_secret_gets_nothing_and_uses_no_nonce_up() {
        let world = World::new().await;
        let shared = world.users.shared_secret();
        let nonce = shared.nonce().expect("enabled");
        let promoted = SharedSecretRequest {
            admin: true,
            ..{
                let mut plain = request(&nonce, "bob", "shared");
                plain.admin = false;
                sign(&mut plain, "shared");
                plain
            }
        };
        let garbled = SharedSecretRequest { mac: "xyz".to_owned(), ..request(&nonce, "bob", "shared") };
        for bad in [request(&nonce, "bob", "other"), promoted, garbled] {
            assert!(matches!(shared.register(bad).await, Err(SharedSecretError::BadMac)));
        }
        let zero = shared.register(request(&nonce, "b\0b", "shared")).await;
        assert!(matches!(zero, Err(SharedSecretError::BadUsername)));
        assert!(shared.register(request(&nonce, "bob", "shared")).await.is_ok());
        let symbols = shared.register(request(&shared.nonce().expect("enabled"), "us,er", "shared")).await;
        assert!(matches!(
            symbols,
            Err(SharedSecretError::Register(RegisterError::InvalidUsername(NameError::Characters)))
        ));
    }

    #[tokio::test]
    async fn without_a_secret_there_is_no_such_thing() {
        for shared_secret in [None, Some(String::new())] {
            let world = World::with(Options { shared_secret, ..options() }).await;
            assert!(matches!(world.users.shared_secret().nonce(), Err(SharedSecretError::Disabled)));
            let refused = world.users.shared_secret().register(request("abc", "bob", "")).await;
            assert!(matches!(refused, Err(SharedSecretError::Disabled)));
        }
    }
}
