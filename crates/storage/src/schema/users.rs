//! Accounts and all that belongs to them. Table numbers 50–89. Written by the `users` crate only.

use super::tables;

tables! {}
