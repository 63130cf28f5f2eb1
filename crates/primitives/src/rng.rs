//! Randomness as a parameter: the operating system's generator in production, a seeded one in tests.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use rand::{
    Rng, SeedableRng, TryRng,
    rngs::{StdRng, SysRng},
};

/// A handle to a random generator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Random(Source);

#[derive(Clone, Debug)]
enum Source {
    Os,
    Seeded(Arc<Mutex<StdRng>>),
}

impl Random {
    /// The operating system's cryptographic generator. Everything secret comes from here.
    pub fn os() -> Self {
        Self(Source::Os)
    }

    /// A generator that yields the same bytes for the same seed. For tests only.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))))
    }

    /// Fills a buffer.
    ///
    /// # Panics
    /// If the operating system cannot give random bytes: no secret may then be made at all.
    pub fn fill(&self, buffer: &mut [u8]) {
        match &self.0 {
            Source::Os => SysRng.try_fill_bytes(buffer).expect("the operating system gives random bytes"),
            Source::Seeded(rng) => rng.lock().fill_bytes(buffer),
        }
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number.
    pub fn u64(&self) -> u64 {
        u64::from_be_bytes(self.bytes())
    }

    /// A random number below `bound` (which must not be 0); the bias for small bounds is below 2⁻³².
    pub fn below(&self, bound: u64) -> u64 {
        self.u64() % bound
    }

    /// A URL-safe token that holds `BYTES` random bytes.
    pub fn token<const BYTES: usize>(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes::<BYTES>())
    }

    /// `length` random characters out of `A`–`Z`, as in device ids.
    pub fn uppercase(&self, length: usize) -> String {
        (0..length).map(|_| char::from(b'A' + u8::try_from(self.below(26)).expect("below 26"))).collect()
    }

    /// `length` random ASCII letters, as in the local parts of room ids.
    pub fn letters(&self, length: usize) -> String {
        const LETTERS: &[u8; 52] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..length).map(|_| char::from(LETTERS[usize::try_from(self.below(52)).expect("below 52")])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_the_os_does_not() {
        assert_eq!(Random::seeded(7).token::<16>(), Random::seeded(7).token::<16>());
        assert_ne!(Random::os().token::<16>(), Random::os().token::<16>());
        assert_eq!(Random::os().uppercase(10).len(), 10);
    }
}
