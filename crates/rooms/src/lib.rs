//! Rooms: the event DAG, authorisation, state and its resolution.

pub mod activity;
pub mod auth;
pub mod filter;
pub mod pdu;
pub mod render;
pub mod resolve;
pub mod state;
pub mod tokens;
mod varint;
pub mod version;

pub use auth::AuthError;
pub use pdu::{Pdu, PduError};
pub use version::RoomVersion;

#[cfg(test)]
mod testing;
