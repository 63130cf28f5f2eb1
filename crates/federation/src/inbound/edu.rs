//! What other servers send besides events (server-server API, "EDUs"): each kind goes to its owner.
//!
//! An owner believes nothing: the user whom an EDU is about must be of the server that sends it, and where it is about a room, that server must
//! take part in it and be let to by its ACL (SECURITY, lines 7 and 17). What isn't believed is dropped, and the EDUs after it go on.

use ruma::ServerName;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{devices, ephemeral};
use crate::Federation;

/// An EDU as it came.
#[derive(Debug, Deserialize)]
pub(crate) struct Edu {
    edu_type: String,
    content: Box<RawValue>,
}

/// Why an EDU was not taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EduError {
    /// It isn't of the shape that its type asks for.
    #[error("not of the form of its type: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It is about a user of another server than the one that sends it.
    #[error("a server speaks for another server's user")]
    Foreign,
    /// Its owner doesn't take it.
    #[error("not taken: {0}")]
    Refused(String),
    /// The store failed.
    #[error("it could not be stored: {0}")]
    Internal(String),
}

impl Edu {
    /// The content, read as what the type asks for.
    pub(crate) fn content<T: DeserializeOwned>(&self) -> Result<T, EduError> {
        Ok(serde_json::from_str(self.content.get())?)
    }
}

/// Takes an EDU of a server in. Types that are not known are ignored.
pub(crate) async fn take_in(federation: &Federation, origin: &ServerName, edu: Edu) {
    match dispatch(federation, origin, &edu).await {
        Ok(()) => {}
        Err(error @ EduError::Internal(_)) => {
            tracing::error!(%origin, edu_type = edu.edu_type, %error, "an EDU was lost");
        }
        Err(error) => tracing::debug!(%origin, edu_type = edu.edu_type, %error, "an EDU was dropped"),
    }
}

/// One arm for each type; what it does is in a file of its own beside this one.
async fn dispatch(federation: &Federation, origin: &ServerName, edu: &Edu) -> Result<(), EduError> {
    match edu.edu_type.as_str() {
        "m.device_list_update" => devices::list_update(federation, origin, edu).await?,
        "m.direct_to_device" => devices::to_device(federation, origin, edu).await?,
        "m.presence" => ephemeral::presence(federation, origin, edu).await?,
        "m.receipt" => ephemeral::receipts(federation, origin, edu).await?,
        "m.signing_key_update" => devices::signing_keys(federation, origin, edu).await?,
        "m.typing" => ephemeral::typing(federation, origin, edu).await?,
        other => tracing::debug!(%origin, edu_type = other, "an EDU of a type that is not known"),
    }
    Ok(())
}
