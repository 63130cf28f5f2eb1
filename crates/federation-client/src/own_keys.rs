//! The keys that this server signs and has signed with, as it publishes them (server-server API, "Publishing Keys").

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use primitives::{ServerKey, UnixMillis};
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName,
    canonical_json::{CanonicalJsonObject, CanonicalJsonValue},
    signatures::sign_json,
};

/// How long others may rely on the published keys before they ask again.
const VALID_FOR: Duration = Duration::from_hours(24);

/// A key that this server no longer signs with. Only its public half is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldKey {
    /// Its id, as in `ed25519:a_AbCd`.
    pub id: OwnedServerSigningKeyId,
    /// The public half, 32 bytes.
    pub public: [u8; 32],
    /// When the server stopped signing with it.
    pub expired: UnixMillis,
}

/// The keys of this server.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    server_name: OwnedServerName,
    current: Arc<ServerKey>,
    old: Vec<OldKey>,
}

impl OwnKeys {
    /// The keys of the server of this name: what it signs with, and what it signed with before.
    pub fn new(server_name: OwnedServerName, current: Arc<ServerKey>, mut old: Vec<OldKey>) -> Self {
        // A rotation that was cut off leaves the key in both places; it is in use.
        old.retain(|key| key.id != *current.id());
        Self { server_name, current, old }
    }

    /// The name of this server.
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// What this server signs with.
    pub fn current(&self) -> &ServerKey {
        &self.current
    }

    /// What this server signed with before.
    pub fn old(&self) -> &[OldKey] {
        &self.old
    }

    /// The body of `GET /_matrix/key/v2/server`, signed.
    ///
    /// # Panics
    /// Never: the object that is signed is made here.
    pub fn document(&self, now: UnixMillis) -> CanonicalJsonObject {
        let key = |public: String| CanonicalJsonObject::from([("key".to_owned(), public.into())]);
        let current = (self.current.id().to_string(), CanonicalJsonValue::Object(key(self.current.public_base64())));
        let old = self.old.iter().map(|old| {
            let mut entry = key(STANDARD_NO_PAD.encode(old.public));
            entry.insert("expired_ts".to_owned(), millis(old.expired));
            (old.id.to_string(), CanonicalJsonValue::Object(entry))
        });
        let mut document = CanonicalJsonObject::from([
            ("server_name".to_owned(), self.server_name.as_str().into()),
            ("valid_until_ts".to_owned(), millis(now.plus(VALID_FOR))),
            ("verify_keys".to_owned(), CanonicalJsonValue::Object([current].into())),
            ("old_verify_keys".to_owned(), CanonicalJsonValue::Object(old.collect())),
        ]);
        self.sign(&mut document);
        document
    }

    /// Adds this server's signature to an object.
    ///
    /// # Panics
    /// If the object's `signatures` are not objects in an object: the caller has made it or looked at it.
    pub fn sign(&self, object: &mut CanonicalJsonObject) {
        sign_json(self.server_name.as_str(), &*self.current, object).expect("`signatures` are of the right form");
    }
}

/// A time as canonical JSON has it. No time of this server's is beyond 2⁵³.
fn millis(time: UnixMillis) -> CanonicalJsonValue {
    let capped = i64::try_from(time.0).unwrap_or(i64::MAX).min((1 << 53) - 1);
    CanonicalJsonValue::try_from(serde_json::Value::from(capped)).expect("within the range of canonical JSON")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ruma::{
        serde::Base64,
        signatures::{PublicKeyMap, verify_json},
    };

    use super::*;

    fn keys(old: Vec<OldKey>) -> OwnKeys {
        let key = Arc::new(ServerKey::new("a_new", [7; 32]).expect("a key"));
        OwnKeys::new("hs.test".try_into().expect("a name"), key, old)
    }

    fn old(id: &str) -> OldKey {
        OldKey { id: id.try_into().expect("a key id"), public: [9; 32], expired: UnixMillis(5_000) }
    }

    #[test]
    fn the_document_lists_current_and_old_keys_and_is_signed_with_the_current_one() {
        let keys = keys(vec![old("ed25519:a_old")]);
        let document = keys.document(UnixMillis(1_000));
        let public = Base64::new(keys.current().public().to_vec());
        let known =
            PublicKeyMap::from([("hs.test".to_owned(), BTreeMap::from([("ed25519:a_new".to_owned(), public)]))]);
        verify_json(&known, &document).expect("signed");
        let document = serde_json::to_value(document).expect("JSON");
        assert_eq!(document["valid_until_ts"], 86_401_000);
        assert_eq!(document["verify_keys"]["ed25519:a_new"]["key"], keys.current().public_base64());
        assert_eq!(document["old_verify_keys"]["ed25519:a_old"]["expired_ts"], 5_000);
        assert_eq!(document["signatures"]["hs.test"].as_object().map(serde_json::Map::len), Some(1));
    }

    #[test]
    fn objects_are_signed_as_in_the_specifications_appendix() {
        let key = ServerKey::parse("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").expect("a key");
        let keys = OwnKeys::new("domain".try_into().expect("a name"), Arc::new(key), Vec::new());
        for (text, expected) in [
            ("{}", "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
            (
                r#"{"one":1,"two":"Two"}"#,
                "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
            ),
        ] {
            let mut object = serde_json::from_str(text).expect("JSON");
            keys.sign(&mut object);
            let object = serde_json::to_value(object).expect("JSON");
            assert_eq!(object["signatures"]["domain"]["ed25519:1"], expected, "{text}");
        }
    }

    #[test]
    fn a_key_in_use_is_not_an_old_one() {
        assert_eq!(keys(vec![old("ed25519:a_new"), old("ed25519:a_old")]).old(), [old("ed25519:a_old")]);
    }
}
