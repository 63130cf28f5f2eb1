//! Keys and messages to devices: those that need no HTTP at the crates' API, the others as a client waits for them.

mod claims;
mod devices;
mod fill;
mod messages;

pub(super) use claims::claims;
pub(super) use devices::{change, queries};
pub(super) use messages::{batches, sync, to_many};
