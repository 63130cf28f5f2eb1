//! Rooms: the event DAG, authorisation, state and its resolution.

pub mod activity;
pub mod auth;
mod event_key;
pub mod filter;
pub mod pdu;
pub mod read;
pub mod render;
pub mod resolve;
pub mod state;
pub mod sync;
pub mod tokens;
mod varint;
pub mod version;
pub mod visibility;

pub use auth::AuthError;
pub use event_key::event_key;
pub use pdu::{Pdu, PduError};
pub use read::{ReadRoomError, Reader, Reads};
pub use version::RoomVersion;

#[cfg(test)]
mod testing;
