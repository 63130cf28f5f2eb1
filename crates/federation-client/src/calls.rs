//! One method of [`crate::FederationClient`] for each call; a file for what belongs together.

pub mod devices;
pub mod directory;
pub mod events;
pub mod membership;
pub mod policy;
pub mod relationships;
pub mod transaction;
pub mod whole_state;
