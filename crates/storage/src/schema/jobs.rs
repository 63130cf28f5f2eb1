//! Durable work. Table numbers 100–109. Written by the `jobs` crate.

use super::tables;

tables! {}
