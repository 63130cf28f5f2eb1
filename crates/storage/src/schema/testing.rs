//! Tables for the store's own tests. Table numbers 240–249.

use primitives::StreamPosition;

use crate::{Positioned, Raw, Text};

use super::tables;

tables! {
    /// Small values under a key with a string in the middle.
    Plain = 240, "test_plain", (u8, Text, u8) => Raw;
    /// Values of any length.
    Big = 241, "test_big", (u8, u8) => Raw, large;
    /// Stamped keys and values.
    Log = 242, "test_log", (u8, StreamPosition, u16) => Positioned<u32>;
}
