//! Other servers, as far as rooms have to do with them: who asks them, and who knows the keys that their events are signed with. What is asked of them
//! about rooms is in the files below; all of it happens outside the rooms' workers (I13).

mod backfill;
mod directory;
mod error;
mod from_template;
mod given;
mod inbound;
mod invite;
mod invited;
mod join;
mod keys;
mod knock;
mod leave;
mod missing;
mod policy;
mod reading;
mod relationships;
mod resync;
mod servers;
mod under_way;

use federation_client::{FederationClient, KeyRing, RemoteError, ValidAt};
use ruma::{OwnedServerName, canonical_json::CanonicalJsonObject, serde::Base64, signatures::PublicKeyMap};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use backfill::Gap;
pub use directory::RemoteDirectory;
pub use error::RemoteMembershipError;
pub use inbound::TakenIn;
pub use invited::IncomingInvite;
pub(crate) use missing::Turns;
pub(crate) use resync::Resyncs;
pub(crate) use under_way::UnderWay;

use crate::{pdu::RequiredSignature, receive::EventKeys};

/// The way to other servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Asks them.
    pub client: FederationClient,
    /// Knows their keys, and fetches those that it doesn't.
    pub ring: KeyRing,
}

/// Why another server was not asked, or gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// This server takes part in no federation.
    #[error("this server asks no others")]
    NoFederation,
    /// The other server did not do what it was asked.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// A request's body.
fn as_object(body: &impl Serialize) -> Result<CanonicalJsonObject, NotAsked> {
    let malformed = |error: serde_json::Error| RemoteError::Malformed(error.to_string());
    let value = serde_json::to_value(body).map_err(malformed)?;
    Ok(serde_json::from_value(value).map_err(malformed)?)
}

/// An answer of the shape that it should have.
fn shape<T: DeserializeOwned>(answer: CanonicalJsonObject) -> Result<T, NotAsked> {
    let malformed = |error: serde_json::Error| RemoteError::Malformed(error.to_string());
    let value = serde_json::to_value(answer).map_err(malformed)?;
    Ok(serde_json::from_value(value).map_err(malformed)?)
}

impl EventKeys for Remote {
    /// All that can be had. One that can't is left out, and then the event's signature is not good.
    async fn keys(&self, wanted: &[RequiredSignature], at: ValidAt) -> PublicKeyMap {
        let mut found = PublicKeyMap::new();
        for RequiredSignature { server, key_ids } in wanted {
            for id in key_ids {
                let Ok(key_id) = id.as_str().try_into() else { continue };
                match self.ring.key(server, key_id, at).await {
                    Ok(public) => {
                        let of_server: &mut _ = found.entry(OwnedServerName::to_string(server)).or_default();
                        of_server.insert(id.clone(), Base64::new(public.to_vec()));
                    }
                    Err(error) => tracing::debug!(%server, %id, %error, "the key of an event's signature can't be had"),
                }
            }
        }
        found
    }
}
