//! Keyed hashes for table keys: an attacker who doesn't know the database's secret cannot make two inputs collide.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

/// A keyed hash (SipHash-1-3) with the database's own secret.
#[derive(Clone, Copy)]
pub struct KeyedHash {
    key: [u8; 16],
}

impl std::fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedHash(secret)")
    }
}

impl KeyedHash {
    /// A hash under the given secret.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// 128 bits over the given parts; where one part ends and the next begins matters.
    pub fn hash16(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for part in parts {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        }
        hasher.finish128().as_bytes()
    }

    /// The first 64 bits of [`Self::hash16`].
    pub fn hash8(&self, parts: &[&[u8]]) -> [u8; 8] {
        let mut short = [0; 8];
        short.copy_from_slice(&self.hash16(parts)[..8]);
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let hash = KeyedHash::new([7; 16]);
        assert_ne!(hash.hash16(&[b"ab", b"c"]), hash.hash16(&[b"a", b"bc"]));
        assert_ne!(hash.hash8(&[b"a"]), KeyedHash::new([8; 16]).hash8(&[b"a"]));
    }
}
