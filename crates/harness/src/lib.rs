//! Tools that look at the server from outside: Complement's record, crash and power-cut runs, benchmarks.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on its standard output")]

pub mod bench;
pub mod client;
pub mod complement;
pub mod crash;
pub mod loopback;
pub mod power;
pub mod process;
