//! What a listener tells the layers above about a connection.

use std::net::IpAddr;

/// The address a request came from: the peer of the socket, or what a trusted proxy says in `X-Forwarded-For`. The listeners put it into
/// every request's extensions; rate limits per address and the list of devices use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(pub IpAddr);
