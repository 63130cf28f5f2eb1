//! The server as a program: configuration, command line, listeners, wiring and lifecycle.

pub mod admin;
pub mod backup;
pub mod cli;
pub mod config;
pub mod listeners;
pub mod lock;
pub mod logging;
pub mod operations;
pub mod serve;
pub mod signing_key;
pub mod wiring;
