//! Credentials for a TURN server (specification, "Voice over IP"): made from a secret that it shares with this server, or fixed ones.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use primitives::UnixMillis;
use ruma::UserId;
use sha1::Sha1;

/// A TURN service that clients of this server may use.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    /// Where it is, as `turn:` and `turns:` URIs.
    pub uris: Vec<String>,
    /// How clients show that they may use it.
    pub access: TurnAccess,
    /// How long credentials are good; clients ask again after that.
    pub lifetime: Duration,
    /// Whether guests get credentials.
    pub allow_guests: bool,
}

/// How clients show that they may use a TURN service.
#[derive(Clone, PartialEq, Eq)]
pub enum TurnAccess {
    /// By a user name that says when it ends, and a password derived from it and this secret (`use-auth-secret` of coturn).
    SharedSecret(String),
    /// By a user name and password that never change.
    Fixed {
        /// The user name.
        username: String,
        /// The password.
        password: String,
    },
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("uris", &self.uris).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TurnAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TurnAccess")
    }
}

/// What a client shows to a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for TurnCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TurnCredentials")
    }
}

impl Turn {
    /// The credentials of a user from now on.
    pub(crate) fn credentials(&self, user_id: &UserId, now: UnixMillis) -> TurnCredentials {
        match &self.access {
            TurnAccess::Fixed { username, password } => {
                TurnCredentials { username: username.clone(), password: password.clone() }
            }
            TurnAccess::SharedSecret(secret) => {
                let ends = now.plus(self.lifetime).0 / 1_000;
                let username = format!("{ends}:{user_id}");
                let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
                mac.update(username.as_bytes());
                TurnCredentials { password: STANDARD.encode(mac.finalize().into_bytes()), username }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn turn(access: TurnAccess) -> Turn {
        Turn { uris: vec!["turn:t.test".to_owned()], access, lifetime: Duration::from_hours(1), allow_guests: true }
    }

    #[test]
    fn a_password_is_the_hmac_of_a_name_that_ends() {
        let turn = turn(TurnAccess::SharedSecret("n0t4ctuAllymatr1Xd0TorgSshar3d5ecret4obvIousreAsons".to_owned()));
        let now = UnixMillis(1_500_000_000_999);
        let made = turn.credentials(user_id!("@user:localhost"), now);
        assert_eq!(made.username, "1500003600:@user:localhost");
        // As `printf 1500003600:@user:localhost | openssl dgst -sha1 -hmac SECRET -binary | base64` says.
        assert_eq!(made.password, "I0PEkHHfFyGO204mNYVZgVMcU5M=");
    }

    #[test]
    fn fixed_credentials_are_handed_out_as_they_are_and_never_logged() {
        let access = TurnAccess::Fixed { username: "u".to_owned(), password: "p4ss".to_owned() };
        let turn = turn(access);
        let made = turn.credentials(user_id!("@user:localhost"), UnixMillis(0));
        assert_eq!((made.username.as_str(), made.password.as_str()), ("u", "p4ss"));
        assert!(!format!("{turn:?} {made:?} {:?}", turn.access).contains("p4ss"));
    }
}
