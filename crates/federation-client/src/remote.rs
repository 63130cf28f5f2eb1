//! The seam to the network: a signed request goes out, an answer comes back. Tests put [`crate::FakeServers`] there.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use ruma::OwnedServerName;

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request on its way to another server.
#[derive(Debug)]
pub struct Outgoing {
    /// The server that it is for.
    pub destination: OwnedServerName,
    /// Method, path and query, headers, body. The way to the server is found by whoever sends it.
    pub request: Request<Bytes>,
    /// The largest answer that is read, in bytes.
    pub answer_max_bytes: usize,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// The server's name leads to no address.
    #[error("the server's address can't be found: {0}")]
    Unresolved(String),
    /// The server's name leads only to addresses that may not be connected to.
    #[error("the server is at a private address")]
    ForbiddenAddress,
    /// There is no connection, it can't be trusted, or it broke.
    #[error("the connection failed: {0}")]
    Connection(String),
    /// The answer is larger than is read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It took too long.
    #[error("the server did not answer in time")]
    TimedOut,
}

/// What carries requests to other servers.
pub trait RemoteServers: Send + Sync + 'static {
    /// Sends a request and reads the answer, whatever its status.
    fn send(&self, outgoing: Outgoing) -> BoxFuture<'_, Result<Response<Bytes>, Unreachable>>;
}
