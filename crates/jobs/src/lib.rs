//! Durable work across rooms and users: what a request causes and cannot finish itself, taken up again after a restart.
//!
//! The crate's place in the order of crates is fixed and its table numbers are reserved ([`storage::schema::jobs`]); no kind of work is in it
//! yet. The first will be seeing guests out of a room that closes to them, and carrying profile changes into member events.
