//! Signed JSON (specification, appendix "Signing JSON"), as far as clients' keys need it.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue,
    signatures::{SigningKeyAlgorithm, to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};

/// Unpadded; what is left in the bits after the last byte is not looked at.
const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Whether a text is a public key: 32 bytes in unpadded base64.
pub(super) fn is_public_key(text: &str) -> bool {
    UNPADDED.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// What a signature covers: canonical JSON without `signatures` and `unsigned`.
pub(super) fn signed_part(object: &CanonicalJsonObject) -> String {
    to_canonical_json_string_for_signing(object).expect("a canonical object serialises")
}

/// A user's signatures of an object: ids of keys and signatures. Those that are no strings are left out.
pub(super) fn signatures_of<'a>(
    object: &'a CanonicalJsonObject,
    user: &str,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let all = object.get("signatures").and_then(CanonicalJsonValue::as_object);
    let own = all.and_then(|all| all.get(user)).and_then(CanonicalJsonValue::as_object);
    own.into_iter().flatten().filter_map(|(key_id, signature)| Some((key_id.as_str(), signature.as_str()?)))
}

/// Whether a signature of an object is that of an ed25519 key.
pub(super) fn verifies(object: &CanonicalJsonObject, signature: &str, public_key: &str) -> bool {
    let (Ok(signature), Ok(public_key)) = (UNPADDED.decode(signature), UNPADDED.decode(public_key)) else {
        return false;
    };
    let bytes = signed_part(object);
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, &public_key, &signature, bytes.as_bytes()).is_ok()
}

/// Whether a user has signed an object with the ed25519 key of that name.
pub(super) fn is_signed(object: &CanonicalJsonObject, user: &str, key_name: &str, public_key: &str) -> bool {
    let key_id = format!("ed25519:{key_name}");
    let mut own = signatures_of(object, user);
    own.any(|(id, signature)| id == key_id && verifies(object, signature, public_key))
}

/// Adds signatures of a user to an object.
pub(super) fn add_signatures<'a>(
    object: &mut CanonicalJsonObject,
    user: &str,
    signatures: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let into = object.entry("signatures".to_owned()).or_insert_with(empty);
    let CanonicalJsonValue::Object(all) = into else { return };
    let CanonicalJsonValue::Object(own) = all.entry(user.to_owned()).or_insert_with(empty) else { return };
    for (key_id, signature) in signatures {
        own.insert(key_id.to_owned(), CanonicalJsonValue::String(signature.to_owned()));
    }
}

fn empty() -> CanonicalJsonValue {
    CanonicalJsonValue::Object(CanonicalJsonObject::new())
}

/// A key as it is stored: without `unsigned`, which is the server's, and with the signatures of its user alone.
pub(super) fn kept(mut object: CanonicalJsonObject, user: &str) -> CanonicalJsonObject {
    object.remove("unsigned");
    if let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") {
        signatures.retain(|signer, _| signer == user);
    }
    object
}

/// A canonical object as text.
pub(super) fn text(object: &CanonicalJsonObject) -> String {
    serde_json::to_string(object).expect("a canonical object serialises")
}
