//! The lowest layer: time, randomness, numbers with types, strict canonical JSON and the server's signing key.
//!
//! Nothing here does I/O beyond asking the operating system for the time and for random bytes.

pub mod canonical;
pub mod clock;
pub mod hash;
pub mod ids;
pub mod net;
pub mod noted;
pub mod rng;
pub mod signing;

pub use clock::{Clock, ManualClock, SharedClock, SystemClock, UnixMillis};
pub use hash::KeyedHash;
pub use ids::{NodeId, Rank, Rix, RoomNid, Slot, StreamPosition, UserNid};
pub use noted::Noted;
pub use rng::Random;
pub use signing::ServerKey;
