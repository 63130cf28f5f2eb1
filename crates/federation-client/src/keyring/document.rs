//! A document in which a server publishes its keys, checked.

use std::collections::BTreeMap;

use primitives::UnixMillis;
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName, SigningKeyAlgorithm,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    serde::{Base64, base64::Standard},
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};

/// The most keys of one document, current and old.
const MAX_KEYS: usize = 100;

/// Why a document is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// A field is missing, or of the wrong form.
    #[error("`{0}` is missing or malformed")]
    Field(&'static str),
    /// It is another server's.
    #[error("the keys are those of another server")]
    OtherServer,
    /// It lists more keys than are kept.
    #[error("more than {MAX_KEYS} keys are listed")]
    TooManyKeys,
    /// None of the current keys has signed it.
    #[error("no listed key has signed the list")]
    NotSigned,
}

/// The keys of a server, in its own words and with its signature.
#[derive(Clone, Debug)]
pub struct KeyDocument {
    /// Whose they are.
    pub server: OwnedServerName,
    /// Until when they may be relied on, as the server says.
    pub valid_until: UnixMillis,
    /// The keys that it signs with and has signed this document with; 32 bytes each.
    pub current: BTreeMap<OwnedServerSigningKeyId, [u8; 32]>,
    /// The keys that it signed with before, and when it stopped.
    pub old: BTreeMap<OwnedServerSigningKeyId, ([u8; 32], UnixMillis)>,
    /// The document.
    pub json: CanonicalJsonObject,
}

impl KeyDocument {
    /// Checks that a document is of this server and signed with the keys that it lists. A listed key that has not signed it is passed over, as is
    /// one of another algorithm.
    pub fn check(json: CanonicalJsonObject, server: &ServerName) -> Result<Self, DocumentError> {
        let name = json.get("server_name").and_then(CanonicalJsonValue::as_str);
        if name.ok_or(DocumentError::Field("server_name"))? != server.as_str() {
            return Err(DocumentError::OtherServer);
        }
        let valid_until = time(&json, "valid_until_ts")?;
        let listed = entries(&json, "verify_keys")?.ok_or(DocumentError::Field("verify_keys"))?;
        let listed_old = entries(&json, "old_verify_keys")?.unwrap_or_default();
        if listed.len() + listed_old.len() > MAX_KEYS {
            return Err(DocumentError::TooManyKeys);
        }
        let text = to_canonical_json_string_for_signing(&json).map_err(|_| DocumentError::Field("verify_keys"))?;
        let mut current = BTreeMap::new();
        for (id, entry) in listed {
            let public = public(entry).ok_or(DocumentError::Field("verify_keys"))?;
            if signature(&json, server, id.as_str()).is_some_and(|signature| verifies(&public, &signature, &text)) {
                current.insert(id, public);
            }
        }
        if current.is_empty() {
            return Err(DocumentError::NotSigned);
        }
        let mut old = BTreeMap::new();
        for (id, entry) in listed_old {
            let public = public(entry).ok_or(DocumentError::Field("old_verify_keys"))?;
            let expired = time(entry, "expired_ts").map_err(|_| DocumentError::Field("old_verify_keys"))?;
            // In both lists: it is in use.
            if !current.contains_key(&id) {
                old.insert(id, (public, expired));
            }
        }
        Ok(Self { server: server.to_owned(), valid_until, current, old, json })
    }

    /// Whether the server of another document has signed this one with one of its current keys.
    pub fn is_signed_by(&self, signer: &Self) -> bool {
        let Ok(text) = to_canonical_json_string_for_signing(&self.json) else { return false };
        signer.current.iter().any(|(id, public)| {
            signature(&self.json, &signer.server, id.as_str())
                .is_some_and(|signature| verifies(public, &signature, &text))
        })
    }
}

fn time(object: &CanonicalJsonObject, field: &'static str) -> Result<UnixMillis, DocumentError> {
    let time = object.get(field).and_then(CanonicalJsonValue::as_integer).map(i64::from);
    time.and_then(|time| u64::try_from(time).ok()).map(UnixMillis).ok_or(DocumentError::Field(field))
}

type Entries<'a> = Vec<(OwnedServerSigningKeyId, &'a CanonicalJsonObject)>;

/// The ed25519 keys of a list. None: there is no list.
fn entries<'a>(json: &'a CanonicalJsonObject, field: &'static str) -> Result<Option<Entries<'a>>, DocumentError> {
    let Some(list) = json.get(field) else { return Ok(None) };
    let list = list.as_object().ok_or(DocumentError::Field(field))?;
    let ours = list.iter().filter_map(|(id, entry)| {
        let id = OwnedServerSigningKeyId::try_from(id.as_str()).ok()?;
        (id.algorithm() == SigningKeyAlgorithm::Ed25519).then_some((id, entry))
    });
    let read = ours.map(|(id, entry)| Ok((id, entry.as_object().ok_or(DocumentError::Field(field))?)));
    read.collect::<Result<_, _>>().map(Some)
}

fn public(entry: &CanonicalJsonObject) -> Option<[u8; 32]> {
    let key = entry.get("key")?.as_str()?;
    Base64::<Standard>::parse(key).ok()?.into_inner().try_into().ok()
}

fn signature(json: &CanonicalJsonObject, server: &ServerName, key_id: &str) -> Option<Vec<u8>> {
    let signature = json.get("signatures")?.as_object()?.get(server.as_str())?.as_object()?.get(key_id)?.as_str()?;
    Some(Base64::<Standard>::parse(signature).ok()?.into_inner())
}

fn verifies(public: &[u8; 32], signature: &[u8], text: &str) -> bool {
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, public, signature, text.as_bytes()).is_ok()
}
