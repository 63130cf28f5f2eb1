//! Delayed events. Table numbers 90–99. Written by the `delayed-events` crate only.

use super::tables;

tables! {}
