//! The client API as a client sees it, on a server in memory.

#[path = "api/accounts.rs"]
mod accounts;
#[path = "api/bad_input.rs"]
mod bad_input;
#[path = "api/delayed.rs"]
mod delayed;
#[path = "api/devices.rs"]
mod devices;
#[path = "api/rooms.rs"]
mod rooms;
#[path = "api/support.rs"]
mod support;
