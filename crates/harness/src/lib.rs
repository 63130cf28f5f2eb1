//! What the harness's binaries share: tools that look at the server from outside.

pub mod complement;
