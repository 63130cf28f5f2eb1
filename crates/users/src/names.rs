//! User names: which may be registered, and which account one means that is typed at login.

use ruma::ServerName;

/// The longest user id, in bytes, with the `@`, the colon and the server name (specification, "User identifiers").
pub const MAX_USER_ID_BYTES: usize = 255;

/// Why no account can have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing of it.
    #[error("a user name cannot be empty")]
    Empty,
    /// It has other characters than `a`–`z`, `0`–`9` and `._=-/+`.
    #[error("a user name can only contain a-z, 0-9, and the characters . _ = - / +")]
    Characters,
    /// It begins with an underscore; those names belong to application services.
    #[error("a user name cannot begin with an underscore")]
    Reserved,
    /// The user id would be longer than [`MAX_USER_ID_BYTES`].
    #[error("the user id would be longer than {MAX_USER_ID_BYTES} bytes")]
    TooLong,
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte)
}

/// The local part that a new account gets for a wished name: capitals become small, anything else outside the specification's grammar is
/// refused.
pub fn new_localpart(wished: &str, server_name: &ServerName) -> Result<String, NameError> {
    let localpart = wished.to_ascii_lowercase();
    if localpart.is_empty() {
        return Err(NameError::Empty);
    }
    if !localpart.bytes().all(allowed) {
        return Err(NameError::Characters);
    }
    if localpart.starts_with('_') {
        return Err(NameError::Reserved);
    }
    if localpart.len() + server_name.as_str().len() + 2 > MAX_USER_ID_BYTES {
        return Err(NameError::TooLong);
    }
    Ok(localpart)
}

/// The local part in what was typed at login: a local part or a whole user id of this server. None if it is a user of another server.
pub(crate) fn typed_localpart<'a>(typed: &'a str, server_name: &ServerName) -> Option<&'a str> {
    let Some(id) = typed.strip_prefix('@') else { return Some(typed) };
    let (localpart, server) = id.split_once(':')?;
    (server == server_name.as_str()).then_some(localpart)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruma::{UserId, server_name};

    use super::*;

    proptest! {
        #[test]
        fn what_is_accepted_is_a_user_id_of_the_strict_grammar(wished in "\\PC{0,300}|[a-zA-Z0-9._=/+-]{0,300}") {
            let server = server_name!("hs1");
            if let Ok(localpart) = new_localpart(&wished, server) {
                let id = UserId::parse(format!("@{localpart}:hs1")).expect("a user id");
                prop_assert!(id.validate_strict().is_ok());
                prop_assert_eq!(&localpart, &wished.to_ascii_lowercase());
                prop_assert_eq!(new_localpart(&localpart, server), Ok(localpart.clone()));
            } else {
                let plain = wished.bytes().all(|b| allowed(b.to_ascii_lowercase()));
                prop_assert!(wished.is_empty() || wished.starts_with('_') || wished.len() > 250 || !plain);
            }
        }
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let server = server_name!("hs1");
        for bad in ["a!b", "a\"", "a:b", "a?", "a\\", "@a", "a[", "a£", "é", "a\n", "a'", "a b", "a,b"] {
            assert_eq!(new_localpart(bad, server), Err(NameError::Characters), "{bad}");
        }
        assert_eq!(new_localpart("", server), Err(NameError::Empty));
        assert_eq!(new_localpart("_irc", server), Err(NameError::Reserved));
        assert_eq!(new_localpart(&"a".repeat(251), server), Err(NameError::TooLong));
        assert_eq!(new_localpart(&"a".repeat(250), server).map(|l| l.len()), Ok(250));
        assert_eq!(new_localpart("user-UPPER/+=.3", server), Ok("user-upper/+=.3".to_owned()));
    }

    #[test]
    fn login_takes_local_parts_and_whole_ids_of_this_server() {
        let server = server_name!("hs1:8448");
        assert_eq!(typed_localpart("bob", server), Some("bob"));
        assert_eq!(typed_localpart("@bob:hs1:8448", server), Some("bob"));
        assert_eq!(typed_localpart("@bob:hs2", server), None);
        assert_eq!(typed_localpart("@bob", server), None);
    }
}
