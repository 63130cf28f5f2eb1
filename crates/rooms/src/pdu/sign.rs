//! Hashes and signatures of events (specification, server-server API, "Signing Events").

use std::collections::{BTreeMap, BTreeSet};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use primitives::ServerKey;
use ruma::{
    EventId, OwnedEventId, OwnedServerName, ServerName, SigningKeyAlgorithm,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    room_version_rules::EventIdFormatVersion,
    serde::Base64,
    signatures::{KeyPair, PublicKeyMap, required_server_signatures_to_verify_event, verify_canonical_json_bytes},
};
use sha2::{Digest, Sha256};

use super::{
    Pdu, PduError, SignatureError,
    fields::{Fields, Limits},
    json::EventJson,
    parse,
};
use crate::{RoomVersion, policy::KEY_ID};

/// A server whose signature an event needs, with the keys that it was signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredSignature {
    /// The server.
    pub server: OwnedServerName,
    /// The ids of its keys under which the event holds a signature, as in `ed25519:a_AbCd`.
    pub key_ids: Vec<String>,
}

/// An event whose JSON has been read, for more than one check of it.
pub(crate) struct Opened {
    version: RoomVersion,
    event: EventJson,
}

impl Opened {
    /// See [`Pdu::content_hash_matches`].
    pub(crate) fn content_hash_matches(&self) -> bool {
        let claimed = self.event.object().get("hashes").and_then(|hashes| hashes.as_object()?.get("sha256")?.as_str());
        let claimed = claimed.and_then(|text| Base64::<ruma::serde::base64::Standard>::parse(text).ok());
        let Ok(hashed) = self.event.hashed_text() else { return false };
        claimed.is_some_and(|claimed| claimed.as_bytes() == Sha256::digest(hashed).as_slice())
    }

    /// See [`Pdu::required_signatures`].
    pub(crate) fn required_signatures(&self) -> Result<Vec<RequiredSignature>, SignatureError> {
        let signatures = self.event.object().get("signatures").and_then(CanonicalJsonValue::as_object);
        let required = required_servers(self.version, &self.event)?.into_iter().map(|server| {
            let keys = signatures.and_then(|all| all.get(server.as_str())?.as_object());
            // That of a policy server is nobody's published key (server-server API, "Validating hashes and signatures on received events").
            let published = |id: &&String| *id != KEY_ID;
            let key_ids = keys.map(|keys| keys.keys().filter(published).cloned().collect()).unwrap_or_default();
            RequiredSignature { server, key_ids }
        });
        Ok(required.collect())
    }

    /// See [`Pdu::verify_signatures`].
    pub(crate) fn verify_signatures(&self, keys: &PublicKeyMap) -> Result<(), SignatureError> {
        let signed = self.event.signed_text(self.version).map_err(unreadable)?;
        for server in required_servers(self.version, &self.event)? {
            verify_for_server(&self.event, &server, keys, signed.as_bytes())?;
        }
        Ok(())
    }
}

impl Pdu {
    /// The event with its JSON read, for checks.
    pub(crate) fn opened(&self) -> Result<Opened, SignatureError> {
        Ok(Opened { version: self.version(), event: self.to_json().map_err(unreadable)? })
    }

    /// Whether the content hash in `hashes` is the content's. If not, the event counts only as its redacted form.
    pub fn content_hash_matches(&self) -> bool {
        self.opened().is_ok_and(|opened| opened.content_hash_matches())
    }

    /// The reference hash in unpadded standard base64, as room versions 1 and 2 quote it beside an event's id.
    pub fn reference_hash(&self) -> Result<String, PduError> {
        let signed = self.to_json()?.signed_text(self.version())?;
        Ok(STANDARD_NO_PAD.encode(Sha256::digest(signed)))
    }

    /// The event with everything removed that a redaction removes. Same id, hashes and signatures.
    pub fn redacted(&self) -> Result<Self, PduError> {
        let text = self.to_json()?.redacted(self.version())?.text();
        let fields = Fields::read(self.version(), Some(self.event_id().clone()), text, Limits::None)?;
        Ok(Self::new(fields).with_rejected(self.is_rejected()))
    }

    /// The servers that must have signed the event, with the keys whose signatures it holds. Fetch those keys, then call
    /// [`Pdu::verify_signatures`].
    pub fn required_signatures(&self) -> Result<Vec<RequiredSignature>, SignatureError> {
        self.opened()?.required_signatures()
    }

    /// Checks the signatures of every server that must have signed: each needs at least one valid signature under a key in `keys`,
    /// and none that is wrong. The caller puts in only keys that are valid for this event (from version 5 on, at its
    /// `origin_server_ts`).
    pub fn verify_signatures(&self, keys: &PublicKeyMap) -> Result<(), SignatureError> {
        self.opened()?.verify_signatures(keys)
    }

    /// The event with this server's signature added, as for invites and restricted joins that came from elsewhere.
    pub fn cosigned(&self, key: &ServerKey, server_name: &ServerName) -> Result<Self, PduError> {
        let signature = key.sign(self.to_json()?.signed_text(self.version())?.as_bytes());
        self.with_signature(server_name, key.id().as_str(), &signature.base64())
    }

    /// The event with a signature added, unchecked.
    pub fn with_signature(&self, server_name: &ServerName, key_id: &str, signature: &str) -> Result<Self, PduError> {
        let mut event = self.to_json()?;
        let signatures = event
            .signatures_mut()
            .and_then(|all| {
                all.entry(server_name.to_string())
                    .or_insert_with(|| CanonicalJsonValue::Object(CanonicalJsonObject::new()))
                    .as_object_mut()
            })
            .ok_or_else(|| PduError::Field { field: "signatures", problem: "not an object of objects".to_owned() })?;
        signatures.insert(key_id.to_owned(), signature.into());
        let signed = parse::from_json(self.version(), &event, Limits::Inbound)?;
        Ok(signed.with_rejected(self.is_rejected()))
    }

    /// Whether the event holds a valid signature of a server under a key id and an ed25519 key.
    pub fn is_signed_with(&self, server_name: &ServerName, key_id: &str, public: &[u8]) -> bool {
        let key = BTreeMap::from([(key_id.to_owned(), Base64::new(public.to_vec()))]);
        let keys = PublicKeyMap::from([(server_name.to_string(), key)]);
        let Ok(event) = self.to_json() else { return false };
        let Ok(signed) = event.signed_text(self.version()) else { return false };
        verify_for_server(&event, server_name, &keys, signed.as_bytes()).is_ok()
    }

    fn to_json(&self) -> Result<EventJson, PduError> {
        EventJson::parse(self.version(), self.json().as_bytes())
    }
}

/// The id that the reference hash gives an event (version 3 and later), out of the text that is signed.
pub(super) fn event_id_of(version: RoomVersion, signed_text: &str) -> Result<OwnedEventId, PduError> {
    let hash = Sha256::digest(signed_text);
    let hash = if version.rules().event_id_format == EventIdFormatVersion::V2 {
        STANDARD_NO_PAD.encode(hash)
    } else {
        URL_SAFE_NO_PAD.encode(hash)
    };
    EventId::new_v2_or_v3(&hash).map_err(|source| PduError::Id { field: "event_id", source })
}

fn required_servers(version: RoomVersion, event: &EventJson) -> Result<BTreeSet<OwnedServerName>, SignatureError> {
    required_server_signatures_to_verify_event(event.object(), &version.rules().signatures)
}

fn verify_for_server(
    event: &EventJson,
    server: &ServerName,
    keys: &PublicKeyMap,
    signed: &[u8],
) -> Result<(), SignatureError> {
    let none = || SignatureError::NoSignaturesForEntity(server.to_string());
    let signatures =
        event.object().get("signatures").and_then(|all| all.as_object()?.get(server.as_str())?.as_object());
    let keys = keys.get(server.as_str()).ok_or_else(|| SignatureError::NoPublicKeysForEntity(server.to_string()))?;
    let mut valid = false;
    for (key_id, signature) in signatures.ok_or_else(none)? {
        let (Some(key), true) = (keys.get(key_id), key_id.starts_with("ed25519:")) else { continue };
        let signature =
            Base64::<ruma::serde::base64::Standard>::parse(signature.as_str().ok_or_else(none)?).map_err(|source| {
                SignatureError::InvalidBase64Signature { path: format!("signatures.{server}.{key_id}"), source }
            })?;
        verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key.as_bytes(), signature.as_bytes(), signed)?;
        valid = true;
    }
    if valid { Ok(()) } else { Err(SignatureError::NoSupportedSignatureForEntity(server.to_string())) }
}

/// An event that was read once can be read again, so this never shows in practice.
fn unreadable(error: PduError) -> SignatureError {
    let error: serde_json::Error = serde::de::Error::custom(error);
    error.into()
}
