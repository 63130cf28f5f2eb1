//! The server's own ed25519 signing key and the file it is kept in.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD_NO_PAD},
};
use ed25519_dalek::{Signer, SigningKey};
use ruma::{
    OwnedServerSigningKeyId,
    signatures::{KeyPair, Signature},
};

use crate::Random;

/// Reads what other tools wrote: padded or not, and with whatever they left in the bits after the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a signing key could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The line is not `ed25519 VERSION SEED`.
    #[error("a signing key is one line of the form `ed25519 a_XXXX SEED`")]
    Form,
    /// The seed is not 32 bytes of unpadded base64.
    #[error("the seed of a signing key is 32 bytes in unpadded base64")]
    Seed,
    /// The version has characters that a key id may not have.
    #[error("the version of a signing key is made of letters, digits and underscores")]
    Version,
}

/// An ed25519 key under a version, as in `ed25519:a_AbCd`.
#[derive(Clone)]
pub struct ServerKey {
    id: OwnedServerSigningKeyId,
    key: SigningKey,
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ServerKey").field(&self.id).finish()
    }
}

impl ServerKey {
    /// A new key with a random version.
    pub fn generate(random: &Random) -> Self {
        let version = format!("a_{}", random.letters(4));
        Self::new(&version, random.bytes()).expect("a generated version is valid")
    }

    /// A key from its version and its 32-byte seed.
    pub fn new(version: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        let id = format!("ed25519:{version}").try_into().map_err(|_| KeyError::Version)?;
        Ok(Self { id, key: SigningKey::from_bytes(&seed) })
    }

    /// Reads the usual one-line form, `ed25519 a_XXXX SEED`.
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_ascii_whitespace();
        let (Some("ed25519"), Some(version), Some(seed), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyError::Form);
        };
        let seed = LENIENT.decode(seed).map_err(|_| KeyError::Seed)?;
        Self::new(version, seed.try_into().map_err(|_| KeyError::Seed)?)
    }

    /// The one-line form that [`Self::parse`] reads. A secret.
    pub fn to_line(&self) -> String {
        format!("ed25519 {} {}\n", self.version(), STANDARD_NO_PAD.encode(self.key.to_bytes()))
    }

    /// The key id, as in `ed25519:a_AbCd`.
    pub fn id(&self) -> &OwnedServerSigningKeyId {
        &self.id
    }

    /// The part of the key id after the colon.
    pub fn version(&self) -> &str {
        self.id.key_name().as_str()
    }

    /// The public half, 32 bytes.
    pub fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// The public half in unpadded base64, as published.
    pub fn public_base64(&self) -> String {
        STANDARD_NO_PAD.encode(self.public())
    }
}

impl KeyPair for ServerKey {
    fn sign(&self, message: &[u8]) -> Signature {
        let id = self.id.as_str().try_into().expect("a server key id is a key id");
        Signature::new(id, self.key.sign(message).to_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_form_round_trips() {
        let key = ServerKey::generate(&Random::seeded(1));
        let again = ServerKey::parse(&key.to_line()).expect("own line parses");
        assert_eq!(key.public(), again.public());
        assert_eq!(key.id(), again.id());
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in ["", "ed25519 a_x", "rsa a_x AAAA", "ed25519 a-x! AAAA", "ed25519 a_x AAAA extra word"] {
            assert!(ServerKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_signature_of_the_specifications_example_key_is_the_expected_one() {
        // Appendix "Cryptographic Test Vectors": the empty object under the given seed.
        let key = ServerKey::parse("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").expect("valid");
        let expected = "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ";
        assert_eq!(key.sign(b"{}").base64(), expected);
    }
}
