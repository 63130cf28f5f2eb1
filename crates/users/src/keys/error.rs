//! Why keys are not taken.

use storage::ReadError;

use crate::error::StoreError;

/// Why keys are not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key has not the form that it has to have.
    #[error("{0}")]
    Malformed(String),
    /// A key is of another user or device than the one who uploads it.
    #[error("the keys are another {0}'s")]
    Foreign(&'static str),
    /// A key is larger than this server allows.
    #[error("a key can have at most {0} bytes")]
    TooLarge(usize),
    /// The device has as many keys as this server allows.
    #[error("a device can have at most {0} one-time keys of an algorithm")]
    TooMany(u32),
    /// The request is about more than this server does at once.
    #[error("at most {0} can be asked for at once")]
    TooMuch(usize),
    /// Another one-time key of that id was uploaded before.
    #[error("One time key {0} already exists")]
    OtherKey(String),
    /// A signature is missing or wrong.
    #[error("{0} is not signed as it has to be")]
    BadSignature(&'static str),
    /// Cross-signing keys come with or after a master key.
    #[error("there is no master key")]
    NoMasterKey,
    /// A cross-signing key is also the id of a device.
    #[error("Key ID in use")]
    KeyIdInUse,
    /// The user has to authenticate first.
    #[error("cross-signing keys are replaced only by who has authenticated")]
    Unauthenticated,
    /// There is no device, or no longer.
    #[error("keys belong to a device")]
    NoDevice,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReadError> for KeysError {
    fn from(error: ReadError) -> Self {
        Self::Store(error.into())
    }
}
