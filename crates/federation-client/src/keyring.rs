//! The keys of other servers: fetched once for all who wait, kept with their validity, never asked for in a storm (server-server API,
//! "Retrieving server keys").

mod document;
mod store;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use primitives::{SharedClock, UnixMillis};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName, ServerSigningKeyId, canonical_json::CanonicalJsonObject};
use storage::{CommitError, ReadError, Storage, schema::federation::ServerKeyRow};
use tokio::sync::{Mutex, Semaphore};

pub use self::document::{DocumentError, KeyDocument};
use crate::{FederationClient, RemoteError};

/// The longest that a key is relied on after its server was asked, whatever the server says.
pub(crate) const RELIED_ON_MAX: Duration = Duration::from_hours(7 * 24);
/// A server that has told its keys isn't asked for others within this time.
const PAUSE_AFTER_SUCCESS: Duration = Duration::from_mins(1);
/// A server whose keys could not be had isn't asked again within this time, which doubles with each failure …
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_mins(10);
/// Servers whose last answer is remembered.
const REMEMBERED: usize = 10_000;
/// Servers asked at once; further requests wait.
const AT_ONCE: usize = 256;

/// When a key must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidAt {
    /// Now, for a request; an expired key never is.
    Now,
    /// At the time of an event, in room versions from 5 on.
    Time(UnixMillis),
    /// At whatever time: events of room versions before 5.
    Anytime,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The server has no such key, or none that is valid at the time.
    #[error("the server has no such key that is valid at the time")]
    NotValid,
    /// The server's keys could not be had a moment ago, and it isn't asked again yet.
    #[error("the server's keys could not be had a moment ago")]
    AskedLately,
    /// Neither the server nor a notary gives its keys.
    #[error("the server's keys can't be had: {0}")]
    Unavailable(#[from] FetchError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store can't be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why a document of keys was not had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The request failed.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What came is no document of that server's.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// All that it signs with are keys that are known to be in strangers' hands.
    #[error("the server signs with a key that is denied")]
    Denied,
    /// A notary has none, or hasn't signed it.
    #[error("the notary vouches for no keys of the server")]
    NotVouched,
}

/// The last time that a server was asked.
#[derive(Clone, Copy, Debug)]
struct Asked {
    failures: u32,
    /// On the monotonic clock: not before this again.
    not_before: Duration,
}

/// The keys of all servers. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    client: FederationClient,
    storage: Storage,
    clock: SharedClock,
    notaries: Vec<OwnedServerName>,
    /// Public keys that nothing is believed of, whoever's they are said to be.
    denied: BTreeSet<[u8; 32]>,
    /// Who holds a server's lock asks it; the others wait and find what was had.
    asked: Cache<OwnedServerName, Arc<Mutex<Option<Asked>>>>,
    at_once: Semaphore,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("notaries", &self.0.notaries).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Keeps keys in the store. Where a server itself can't be asked, these notaries are, one after the other; they are trusted.
    pub fn new(client: FederationClient, storage: Storage, clock: SharedClock, notaries: Vec<OwnedServerName>) -> Self {
        Self::denying(client, storage, clock, notaries, BTreeSet::new())
    }

    /// The same, but for some public keys, which are in strangers' hands: whatever is signed with them is not signed (SECURITY 5), whatever its time.
    pub fn denying(
        client: FederationClient,
        storage: Storage,
        clock: SharedClock,
        notaries: Vec<OwnedServerName>,
        denied: BTreeSet<[u8; 32]>,
    ) -> Self {
        let (asked, at_once) = (Cache::new(REMEMBERED), Semaphore::new(AT_ONCE));
        Self(Arc::new(Inner { client, storage, clock, notaries, denied, asked, at_once }))
    }

    /// A key of a server, this one's own included: 32 bytes of ed25519. Asks the server if the key is not known, or not known to be valid at
    /// the time.
    ///
    /// # Errors
    /// See [`KeyError`]. The server may be asked again later.
    pub async fn key(
        &self,
        server: &ServerName,
        key_id: &ServerSigningKeyId,
        at: ValidAt,
    ) -> Result<[u8; 32], KeyError> {
        if server == self.0.client.own_keys().server_name() {
            let own = self.own(key_id, at).filter(|public| !self.0.denied.contains(public));
            return own.ok_or(KeyError::NotValid);
        }
        if let Some(key) = self.known(server, key_id, at).await? {
            return Ok(key);
        }
        let least = match at {
            ValidAt::Now => self.0.clock.now(),
            ValidAt::Time(time) => time,
            ValidAt::Anytime => UnixMillis(0),
        };
        let refreshed = self.refresh(server, Some(key_id), least).await;
        // Also if this call asked nobody: whoever it waited for may have brought the key.
        if let Some(key) = self.known(server, key_id, at).await? {
            return Ok(key);
        }
        refreshed?;
        Err(KeyError::NotValid)
    }

    /// The newest document that is known of a server, whatever its age. This server's own is made afresh.
    ///
    /// # Errors
    /// The store could not be read.
    pub async fn document(&self, server: &ServerName) -> Result<Option<KeyDocument>, ReadError> {
        let own = self.0.client.own_keys();
        if server == own.server_name() {
            let document = own.document(self.0.clock.now());
            return Ok(KeyDocument::check(document, server).ok());
        }
        store::document(&self.0.storage, server).await
    }

    /// The same, at least as valid as asked: if what is known ends before, the server is asked, unless it was a moment ago.
    ///
    /// # Errors
    /// The store failed. That the server can't be asked is no error: what is known is then all there is.
    pub async fn document_valid_until(
        &self,
        server: &ServerName,
        least: UnixMillis,
    ) -> Result<Option<KeyDocument>, KeyError> {
        let document = self.document(server).await?;
        if document.as_ref().is_some_and(|document| document.valid_until >= least.max(self.0.clock.now())) {
            return Ok(document);
        }
        match self.refresh(server, None, least).await {
            Ok(()) | Err(KeyError::AskedLately | KeyError::Unavailable(_)) => Ok(self.document(server).await?),
            Err(error) => Err(error),
        }
    }

    /// Asks for the keys of a server, once for all who want them. Does nothing if it has just told them.
    async fn refresh(
        &self,
        server: &ServerName,
        key_id: Option<&ServerSigningKeyId>,
        least: UnixMillis,
    ) -> Result<(), KeyError> {
        let asked = self.asked(server);
        let mut asked = asked.lock().await;
        if let Some(Asked { failures, not_before }) = *asked
            && self.0.clock.monotonic() < not_before
        {
            return if failures == 0 { Ok(()) } else { Err(KeyError::AskedLately) };
        }
        let fetched = self.fetch(server, key_id, least).await;
        let failures = if fetched.is_ok() { 0 } else { asked.map_or(0, |asked| asked.failures).saturating_add(1) };
        let pause = match failures {
            0 => PAUSE_AFTER_SUCCESS,
            failures => PAUSE_AFTER_FAILURE.saturating_mul(1 << (failures - 1).min(10)).min(PAUSE_MAX),
        };
        *asked = Some(Asked { failures, not_before: self.0.clock.monotonic().saturating_add(pause) });
        Ok(store::keep(&self.0.storage, &fetched?, self.0.clock.now()).await?)
    }

    fn asked(&self, server: &ServerName) -> Arc<Mutex<Option<Asked>>> {
        let made: Result<_, std::convert::Infallible> = self.0.asked.get_or_insert_with(server, || Ok(Arc::default()));
        made.unwrap_or_default()
    }

    fn own(&self, key_id: &ServerSigningKeyId, at: ValidAt) -> Option<[u8; 32]> {
        let own = self.0.client.own_keys();
        if own.current().id() == key_id {
            return Some(own.current().public());
        }
        let old = own.old().iter().find(|old| old.id == key_id)?;
        is_valid(old.expired, true, at, self.0.clock.now()).then_some(old.public)
    }

    async fn known(
        &self,
        server: &ServerName,
        key_id: &ServerSigningKeyId,
        at: ValidAt,
    ) -> Result<Option<[u8; 32]>, ReadError> {
        let row = store::key(&self.0.storage, server, key_id).await?;
        let now = self.0.clock.now();
        // Also those that were kept before they were denied.
        let valid = row.filter(|ServerKeyRow { public, valid_until, expired }| {
            !self.0.denied.contains(public) && is_valid(*valid_until, *expired, at, now)
        });
        Ok(valid.map(|row| row.public))
    }

    async fn fetch(
        &self,
        server: &ServerName,
        key_id: Option<&ServerSigningKeyId>,
        least: UnixMillis,
    ) -> Result<KeyDocument, FetchError> {
        let _turn = self.0.at_once.acquire().await.expect("the semaphore is never closed");
        let direct = self.fetch_directly(server).await;
        let Err(error) = direct else { return direct };
        tracing::debug!(%server, %error, "a server doesn't give its keys");
        for notary in self.0.notaries.iter().filter(|notary| *notary != server) {
            match self.fetch_from_notary(notary, server, key_id, least).await {
                Ok(document) => return Ok(document),
                Err(error) => tracing::debug!(%server, %notary, %error, "a notary doesn't give a server's keys"),
            }
        }
        Err(error)
    }

    async fn fetch_directly(&self, server: &ServerName) -> Result<KeyDocument, FetchError> {
        self.believed(self.0.client.server_keys(server).await?, server)
    }

    /// A document of a server without the keys that are denied: they vouch for nothing, not for a document either.
    fn believed(&self, json: CanonicalJsonObject, server: &ServerName) -> Result<KeyDocument, FetchError> {
        let mut document = KeyDocument::check(json, server)?;
        document.current.retain(|_, public| !self.0.denied.contains(public));
        document.old.retain(|_, (public, _)| !self.0.denied.contains(public));
        if document.current.is_empty() { Err(FetchError::Denied) } else { Ok(document) }
    }

    /// The newest document that a notary vouches for. Its own keys come from itself, never from another notary.
    async fn fetch_from_notary(
        &self,
        notary: &ServerName,
        server: &ServerName,
        key_id: Option<&ServerSigningKeyId>,
        least: UnixMillis,
    ) -> Result<KeyDocument, FetchError> {
        let notary_document = self.fetch_directly(notary).await?;
        let documents = self.0.client.notary_keys(notary, server, key_id, least).await?;
        let vouched = documents.into_iter().filter_map(|json| {
            let document = self.believed(json, server).ok()?;
            document.is_signed_by(&notary_document).then_some(document)
        });
        vouched.max_by_key(|document| document.valid_until).ok_or(FetchError::NotVouched)
    }
}

fn is_valid(until: UnixMillis, expired: bool, at: ValidAt, now: UnixMillis) -> bool {
    match at {
        ValidAt::Now => !expired && now <= until,
        ValidAt::Time(time) => time <= until,
        ValidAt::Anytime => true,
    }
}

#[cfg(test)]
mod tests;
